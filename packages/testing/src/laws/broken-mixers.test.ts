import * as tf from '@tensorflow/tfjs-core';
import { constant, Linear, Parameter, setupBackend } from '@seqloom/core';
import type { MixerOptions, MixerResult, MixInput, SequenceMixer, StateShapes } from '@seqloom/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { badConfigLaw, badInputLaw } from './bad-input.ts';
import { batchLaw } from './batch.ts';
import { causalityLaw } from './causality.ts';
import { costLaw } from './cost.ts';
import { gradientLaw } from './gradient.ts';
import { dirtyMemoryLaw, hardNumericsLaw } from './hard-numerics.ts';
import { BrokenLaw } from './law.ts';
import type { Law } from './law.ts';
import type { MixerSubject } from './mixer-subject.ts';
import { faultLaw, leakLaw } from './no-leak.ts';
import { junkPaddingLaw, paddingLaw, unusedStateLaw } from './padding.ts';
import { segmentLaw } from './segments.ts';
import { splitLaw } from './split.ts';
import { stateBytesLaw, stateReuseLaw } from './state.ts';
import { toyCard, ToyMixer } from './toy-mixer.ts';
import { ToyCache, ToyMean } from './toy-patterns.ts';

const config = { dim: 4 };

class SeesFuture extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    const result = super.mix(input);
    return { ...result, output: tf.add(result.output, tf.mul(1e-3, tf.mean(input.x, 1, true))) as tf.Tensor3D };
  }
}

class ForgetsState extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    return super.mix({ ...input, state: { ...input.state, hidden: tf.zerosLike(input.state.hidden!) } });
  }
}

class KeepsTensors extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    tf.keep(tf.zeros([2]));
    return super.mix(input);
  }
}

class CleansUpOnlyAtTheEnd extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    const scratch = tf.keep(tf.zeros([2]));
    const result = super.mix(input);
    scratch.dispose();
    return result;
  }
}

class DropsMask extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    return super.mix({ ...input, valid: null });
  }
}

class CountsWrongBytes extends ToyMixer {
  override stateBytes(batch: number, length: number): number {
    return super.stateBytes(batch, length) + 4;
  }
}

class MutatesState extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    const result = super.mix(input);
    // the cpu backend hands out its own array
    (tf.backend().readSync(input.state.hidden!.dataId) as Float32Array)[0]! += 1e-3;
    return result;
  }
}

class HalvesGradient extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    const result = super.mix(input);
    const halve = tf.customGrad((x: tf.Tensor | tf.GradSaveFunc) => ({
      value: tf.clone(x as tf.Tensor),
      gradFunc: (dy: tf.Tensor) => tf.mul(dy, 0.99),
    }));
    return { ...result, output: halve(result.output) as tf.Tensor3D };
  }
}

class HasIdleParameter extends ToyMixer {
  readonly idle = new Parameter([3], constant(1), 0);
}

class DividesByNorm extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    return super.mix({ ...input, x: tf.div(input.x, tf.norm(input.x, 2, 2, true)) as tf.Tensor3D });
  }
}

class MixesRows extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    const result = super.mix(input);
    return { ...result, output: tf.sub(result.output, tf.mul(1e-3, tf.mean(result.output, 0, true))) as tf.Tensor3D };
  }
}

class ChecksNothing extends ToyMixer {
  override forward(x: tf.Tensor, options: MixerOptions = {}): MixerResult {
    const state = options.state ?? this.initialState(x.shape[0]!);
    return this.mix({
      x: x as tf.Tensor3D,
      state,
      valid: null,
      lengths: null,
      context: null,
      contextValid: null,
      training: false,
    });
  }
}

class TakesAnyConfig extends ToyMixer {
  constructor(given: { dim: number }) {
    super({ dim: given.dim });
  }
}

class ReadsFreeMemory extends ToyMixer {
  override mix(input: MixInput): MixerResult {
    const result = super.mix(input);
    const { wasm } = tf.backend() as unknown as {
      wasm: { _malloc(bytes: number): number; _free(address: number): void; HEAPF32: Float32Array };
    };
    const address = wasm._malloc(4096);
    const found = wasm.HEAPF32.subarray(address / 4, address / 4 + 1024).reduce((sum, value) => sum + value, 0);
    wasm._free(address);
    return { ...result, output: tf.add(result.output, tf.mul(found, 1e-30)) as tf.Tensor3D };
  }
}

class CachesForConstantState extends ToyCache {}

class WeighsUnusedRows extends ToyCache {
  protected override used(_position: tf.Tensor, cached: number): tf.Tensor {
    return tf.ones([_position.shape[0]!, cached]);
  }
}

class AlignsCacheLeft extends ToyCache {
  override mix(input: MixInput): MixerResult {
    const result = super.mix(input);
    const joined = tf.concat([input.state.tokens!, input.x], 1);
    return { ...result, state: { ...result.state, tokens: joined } };
  }
}

class LooksBackOnly extends ToyMean {
  override mix(input: MixInput): MixerResult {
    const result = super.mix(input);
    return { ...result, output: this.output.forward(input.x) as tf.Tensor3D };
  }
}

class ShiftsOnlySingleTokens extends ToyMixer {
  readonly extra = new Linear({ in: 4, out: 4, seed: 9 });
  override stateShapes(batch: number): StateShapes {
    return super.stateShapes(batch);
  }
  override mix(input: MixInput): MixerResult {
    const result = super.mix(input);
    if (input.x.shape[1] === 1) return result;
    return { ...result, output: tf.add(result.output, tf.mul(1e-3, this.extra.forward(input.x))) as tf.Tensor3D };
  }
}

const subject = (build: () => SequenceMixer, rest: Partial<MixerSubject> = {}): MixerSubject => ({ card: toyCard, build, ...rest });
const cases: [string, Law<MixerSubject>, MixerSubject, RegExp][] = [
  ['sees the future', causalityLaw, subject(() => new SeesFuture(config)), /outputs before the changed token/],
  ['sees the future', splitLaw, subject(() => new SeesFuture(config)), /pieces of .* output/],
  ['forgets its state', splitLaw, subject(() => new ForgetsState(config)), /pieces of 1\+1/],
  ['decodes otherwise than it prefils', splitLaw, subject(() => new ShiftsOnlySingleTokens(config)), /pieces of 1\+1/],
  ['keeps tensors', leakLaw, subject(() => new KeepsTensors(config)), /forward made \d+ tensors and returned/],
  [
    'cleans up only when nothing throws',
    faultLaw,
    subject(() => new CleansUpOnlyAtTheEnd(config)),
    /a fault in kernel call .* changed the number of tensors/,
  ],
  ['drops the mask', paddingLaw, subject(() => new DropsMask(config)), /padding, row 1: state.hidden/],
  ['drops the mask', junkPaddingLaw, subject(() => new DropsMask(config)), /state.hidden with junk/],
  ['counts wrong bytes', stateBytesLaw, subject(() => new CountsWrongBytes(config)), /stateBytes says/],
  ['has a card with another formula', stateBytesLaw, subject(() => new ToyMixer(config), { dims: { dim: 7 } }), /card\.stateBytes/],
  ['has a wrong gradient', gradientLaw, subject(() => new HalvesGradient(config)), /gradient of x along random direction/],
  ['has an idle parameter', gradientLaw, subject(() => new HasIdleParameter(config)), /gradient of idle is zero everywhere/],
  ['divides by a norm', hardNumericsLaw, subject(() => new DividesByNorm(config)), /zero inputs/],
  ['mixes rows', batchLaw, subject(() => new MixesRows(config)), /row 0 after the others changed/],
  ['mixes rows', segmentLaw, subject(() => new MixesRows(config)), /row 0, segment 4: output/],
  ['drops the mask', segmentLaw, subject(() => new DropsMask(config)), /row 0, segment 2: state.hidden/],
  ['checks no input', badInputLaw, subject(() => new ChecksNothing(config)), /expected a SeqLoomError|without an error/],
  ['takes any config', badConfigLaw, subject(() => new TakesAnyConfig(config)), /unknown config key was taken/],
  ['reads free memory', dirtyMemoryLaw, subject(() => new ReadsFreeMemory(config)), /after dirtying free memory/],
  ['grows against its card', costLaw, subject(() => new CachesForConstantState(4)), /the card says constant-state/],
  ['weighs unused rows', unusedStateLaw, subject(() => new WeighsUnusedRows(4)), /junk in unused state rows/],
  ['aligns its cache left', paddingLaw, subject(() => new AlignsCacheLeft(4)), /state.tokens/],
  ['has a pattern that its card lacks', causalityLaw, subject(() => new ToyMean(4, 'noncausal-self')), /is not on the card/],
  ['sees too little', causalityLaw, subject(() => new LooksBackOnly(4, 'noncausal-self')), /changes no output before it/],
];

describe('a mixer that breaks a law fails that law', () => {
  beforeAll(async () => {
    await setupBackend('wasm');
  });

  it.each(cases)('one that %s', async (_what, law, broken, message) => {
    const error: unknown = await law.check(broken).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BrokenLaw);
    expect((error as BrokenLaw).message).toMatch(message);
  });

  it('one that mutates its state', async () => {
    await setupBackend('cpu');
    await expect(stateReuseLaw.check(subject(() => new MutatesState(config)))).rejects.toThrow(
      /the old state used again|the old state\.hidden/,
    );
  });
});
