// sizes of a call of linear attention, and where the rows of a token lie in its tensors

export let tokens: i32 = 0;
export let allHeads: i32 = 0; // state heads
export let groupSize: i32 = 0; // query heads of each
export let decayMode: i32 = 0; // 0 none, 1 per head, 2 per channel
export let outputScale: f32 = 0;
// bytes of a head
export let keyStep: usize = 0;
export let valueStep: usize = 0;
export let decayStep: usize = 0;
export let stateStep: usize = 0;
// and of a token
export let keyToken: usize = 0;
export let valueToken: usize = 0;
export let decayToken: usize = 0;
export let betaToken: usize = 0;
export let queryToken: usize = 0;
export let outToken: usize = 0;
// whose rows the offsets are
export let entry: i32 = 0; // of the batch
export let head: i32 = 0;

/** Takes the sizes of a call. */
export function beginCall(length: i32, heads: i32, group: i32, dk: i32, dv: i32, mode: i32, scale: f32): void {
  tokens = length;
  allHeads = heads;
  groupSize = group;
  decayMode = mode;
  outputScale = scale;
  keyStep = <usize>dk << 2;
  valueStep = <usize>dv << 2;
  decayStep = <usize>(mode == 2 ? dk : 1) << 2;
  stateStep = <usize>(dk * dv) << 2;
  keyToken = keyStep * heads;
  valueToken = valueStep * heads;
  decayToken = decayStep * heads;
  betaToken = <usize>heads << 2;
  queryToken = keyToken * group;
  outToken = valueToken * group;
}

/** Makes the offsets those of head `h` of batch entry `b`. */
export function offsetsOf(b: i32, h: i32): void {
  entry = b;
  head = h;
}

// bytes from the start of a tensor to the row of token t; of queries and outputs, to that of the group's first head

export function keyOffset(t: i32): usize {
  return <usize>(entry * tokens + t) * keyToken + keyStep * head;
}

export function valueOffset(t: i32): usize {
  return <usize>(entry * tokens + t) * valueToken + valueStep * head;
}

export function decayOffset(t: i32): usize {
  return <usize>(entry * tokens + t) * decayToken + decayStep * head;
}

export function betaOffset(t: i32): usize {
  return <usize>(entry * tokens + t) * betaToken + (<usize>head << 2);
}

export function queryOffset(t: i32): usize {
  return keyOffset(t) * groupSize;
}

export function outOffset(t: i32): usize {
  return valueOffset(t) * groupSize;
}

/** Bytes to the state. */
export function stateOffset(): usize {
  return <usize>(entry * allHeads + head) * stateStep;
}
