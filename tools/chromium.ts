import { existsSync } from 'node:fs';

const browsers = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const drivers = [
  '/usr/lib/chromium/vk_swiftshader_icd.json',
  '/usr/lib64/chromium-browser/vk_swiftshader_icd.json',
  '/opt/google/chrome/vk_swiftshader_icd.json',
];

/** The installed Chromium, or the one that `SEQLOOM_CHROMIUM` names. Throws with the command that installs it. */
export function chromiumPath(): string {
  const path = [process.env.SEQLOOM_CHROMIUM, ...browsers].find((candidate) => candidate && existsSync(candidate));
  if (!path)
    throw new Error(
      `No Chromium found (looked at ${browsers.join(', ')}): install it (Debian: apt-get install chromium) or set SEQLOOM_CHROMIUM.`,
    );
  return path;
}

/**
 * The Vulkan driver description of SwiftShader, which Chromium carries: with it Dawn finds an adapter on a machine without any GPU. An already
 * set `VK_ICD_FILENAMES` wins; `undefined` when there is none, and Dawn then looks for the machine's own drivers.
 */
export function softwareVulkan(): string | undefined {
  return process.env.VK_ICD_FILENAMES ?? drivers.find((candidate) => existsSync(candidate));
}
