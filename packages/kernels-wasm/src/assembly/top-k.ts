/** The k largest of each row of `width`, largest first, the lower index first among equals. */
export function topRows(rows: i32, width: i32, k: i32, input: usize, values: usize, indices: usize): void {
  for (let r = 0; r < rows; r++) {
    let held = 0;
    let least: f32 = 0;
    for (let j = 0; j < width; j++) {
      const x = load<f32>(input + ((<usize>j) << 2));
      if (held == k && !(x > least)) continue;
      let place = held < k ? held : k - 1;
      while (place > 0 && x > load<f32>(values + ((<usize>(place - 1)) << 2))) {
        store<f32>(values + ((<usize>place) << 2), load<f32>(values + ((<usize>(place - 1)) << 2)));
        store<i32>(indices + ((<usize>place) << 2), load<i32>(indices + ((<usize>(place - 1)) << 2)));
        place--;
      }
      store<f32>(values + ((<usize>place) << 2), x);
      store<i32>(indices + ((<usize>place) << 2), j);
      if (held < k) held++;
      least = load<f32>(values + ((<usize>(held - 1)) << 2));
    }
    input += (<usize>width) << 2;
    values += (<usize>k) << 2;
    indices += (<usize>k) << 2;
  }
}

/** Puts the gradients of topRows back where the values came from; `to` must hold zeros. */
export function spreadRows(rows: i32, width: i32, k: i32, upstream: usize, indices: usize, to: usize): void {
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < k; i++) {
      store<f32>(to + ((<usize>load<i32>(indices + ((<usize>i) << 2))) << 2), load<f32>(upstream + ((<usize>i) << 2)));
    }
    upstream += (<usize>k) << 2;
    indices += (<usize>k) << 2;
    to += (<usize>width) << 2;
  }
}
