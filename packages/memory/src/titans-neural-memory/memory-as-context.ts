import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { advance, deriveSeed, GatedRmsNorm, lastRows, parseConfig, positiveInteger, RmsNorm, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { phaseShape } from '../segments/phase.ts';
import { chooseRows, walkSegments } from '../segments/walk.ts';
import { besideEntries, checkAttentionHeads } from './beside-attention.ts';
import type { MemoryCarry } from './carry.ts';
import { memoryEntries, TitansNeuralMemory } from './layer.ts';
import { PersistentAttention } from './persistent-attention.ts';

const Schema = v.strictObject({
  ...besideEntries,
  /** C, tokens of a segment, which is also the memory's chunk */
  segmentLength: v.pipe(positiveInteger, v.minValue(2, 'at least 2')),
  memory: v.optional(v.strictObject(memoryEntries), {}),
});

/** Config of `TitansMemoryAsContext`: dim, heads and segmentLength; all else has a default. */
export type TitansMemoryAsContextConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'titans-neural-memory';

/** What goes from piece to piece. */
interface Carry {
  readonly memory: MemoryCarry;
  /** attention rows of the unfinished segment, right aligned [B, C - 1, 2 D + 1] */
  readonly tokens: tf.Tensor3D;
  readonly retrieved: tf.Tensor3D;
}

/**
 * Titans' memory as context (MAC): tokens of a segment attend to persistent tokens, to what the memory as it was before the segment gives
 * for them, and to each other; what comes out is written to the memory, read from it, and gated by it.
 *
 *   h = M_before(x W_Q),  y = attention([P; h; x]),  o = norm(y) * sigmoid(norm(memory(y)))
 *
 * Causal: a token sees h and x of its segment up to itself, and the memory is read as it is after the token's own write.
 *
 * The state is the memory's, `tokens` and `retrieved` [B, C - 1, 2 D + 1] (keys and values of the unfinished segment) and `phase`.
 * Parameters beside the memory: 4 D^2 + N_p D + 3 D.
 *
 * @see Behrouz, Zhong, Mirrokni 2024, arXiv 2501.00663, section 4.1
 */
export class TitansMemoryAsContext extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly attention: PersistentAttention;
  readonly memory: TitansNeuralMemory;
  readonly retrievedNorm: RmsNorm;
  readonly attentionNorm: GatedRmsNorm;
  readonly memoryNorm: RmsNorm;

  constructor(config: TitansMemoryAsContextConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, persistent, segmentLength, memory, seed, outputDeviation } = this.config;
    checkAttentionHeads(MECHANISM, dim, heads);
    this.dim = dim;
    this.attention = new PersistentAttention({ dim, heads, persistent, seed });
    const chunk = { chunkSize: segmentLength, kernelSize: null };
    this.memory = new TitansNeuralMemory({ ...memory, ...chunk, dim, seed: deriveSeed(seed, 'memory') });
    this.retrievedNorm = new RmsNorm({ dim });
    this.attentionNorm = new GatedRmsNorm({ dim, activation: 'sigmoid' });
    this.memoryNorm = new RmsNorm({ dim });
    // a norm undoes any scale before it, so the branch starts small by its weight
    if (outputDeviation !== undefined) tf.tidy(() => this.attentionNorm.weight.assign(tf.fill([dim], Math.sqrt(dim) * outputDeviation)));
  }

  stateShapes(batch: number): StateShapes {
    const rows = [batch, this.config.segmentLength - 1, this.attention.rowWidth];
    return { ...this.memory.memoryShapes(batch), tokens: rows, retrieved: rows, phase: phaseShape(batch) };
  }

  override mixingFlops(length: number): number {
    const { segmentLength, persistent } = this.config;
    return 4 * this.dim * (Math.min(length, segmentLength) + persistent) + this.memory.mixingFlops();
  }

  mix({ x, state, lengths }: MixInput): MixerResult {
    const { segmentLength } = this.config;
    const start: Carry = {
      memory: this.memory.startCarry(state),
      tokens: state.tokens as tf.Tensor3D,
      retrieved: state.retrieved as tf.Tensor3D,
    };
    const walk = walkSegments({ x, state, lengths }, segmentLength, start, (piece, carry) => {
      const before = this.memory.referTo(carry.memory, piece.starts);
      const tokens = this.attention.rows(piece.x, piece.valid);
      const retrieved = this.attention.rows(this.retrievedNorm.forward(this.memory.readBefore(piece.x, before)), piece.valid);
      const seen = [tf.concat([carry.retrieved, retrieved], 1), tf.concat([carry.tokens, tokens], 1)] as tf.Tensor3D[];
      const attended = this.attention.attend(piece.x, seen, null);
      const written = this.memory.features(attended, state, piece.lengths);
      const memory = this.memory.runPiece({ ...piece, x: written.features, starts: false }, before);
      const gate = this.memoryNorm.forward(this.memory.finish(memory.output, attended));
      const keep = (old: tf.Tensor3D, rows: tf.Tensor3D): tf.Tensor3D => {
        const last = lastRows(old, rows, piece.lengths, segmentLength - 1);
        return chooseRows(piece.ends, tf.zerosLike(last), last) as tf.Tensor3D;
      };
      return {
        output: this.attentionNorm.forward(attended, gate),
        carry: { memory: memory.carry, tokens: keep(carry.tokens, tokens), retrieved: keep(carry.retrieved, retrieved) },
      };
    });
    const position = advance(state.position, x, lengths);
    const { memory, tokens, retrieved } = walk.carry;
    return { output: walk.output, state: { position, ...this.memory.endState(memory, x.shape[0]), tokens, retrieved, phase: walk.phase } };
  }
}
