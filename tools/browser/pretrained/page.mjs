import { MultiHeadAttention } from '@seqloom/attention';
import { Mlp, setupBackend } from '@seqloom/core';
import { component, generate } from '@seqloom/models';
import { hubRepository, loadPretrained } from '@seqloom/models/pretrained';
import * as tf from '@tensorflow/tfjs-core';

/** Loads a checkpoint by ranges, straight from a hub, and continues a prompt. */
async function continuePrompt(hubUrl, prompt) {
  await setupBackend('cpu');
  const before = tf.memory().numTensors;
  const parts = { mixers: { 'mha-mqa-gqa': component(MultiHeadAttention) }, channels: { mlp: component(Mlp) } };
  const { model, report } = await loadPretrained(await hubRepository('org/model', { hubUrl }), parts);
  const ids = [];
  for await (const { id } of generate(model, { prompt, maxNewTokens: 16, temperature: 0 })) ids.push(id);
  model.dispose();
  return { ids, missing: report.missing, leaked: tf.memory().numTensors - before };
}

// the test asks from outside
Object.assign(globalThis, { continuePrompt });
document.title = 'ready';
