import { fail } from '@seqloom/core';

/** One packed row. */
export interface PackedRow {
  /** [length]; 0 behind the last document */
  readonly ids: Int32Array;
  /** [length], the next token; -1 where there is none to learn */
  readonly labels: Int32Array;
  /** [length], number of the document within the row from 1 on; 0 behind the last one */
  readonly segments: Int32Array;
}

/** Options of `packDocuments`. */
export interface PackOptions {
  /** tokens per row */
  readonly length: number;
  /** id to put behind every document; with it the model learns where documents end */
  readonly endId?: number;
  /** learn the first token of a document from the one before it, default false */
  readonly acrossDocuments?: boolean;
}

/**
 * Concatenates documents to rows of one length, without padding but in the last row; documents that do not fit go on in the next row.
 *
 * Labels do not reach from one document into the next unless `acrossDocuments` says so, and `segments` tells the documents of a row apart
 * for models that reset their state between them. A document that goes on in the next row loses no label.
 *
 * @param documents token ids, one array per document, in order; empty ones are left out
 */
export function* packDocuments(documents: Iterable<ArrayLike<number>>, options: PackOptions): Generator<PackedRow, void, undefined> {
  const { length, endId, acrossDocuments = false } = options;
  if (!Number.isInteger(length) || length < 1) {
    const remedy = 'Usual lengths are 128 to 2048.';
    fail({ mechanism: 'packDocuments', argument: 'length', wanted: 'a whole number from 1', given: String(length), remedy });
  }
  let row = emptyRow(length);
  let filled = 0;
  let segment = 0;
  // the token before, whose label is the token at hand
  let open: { readonly labels: Int32Array; readonly at: number } | null = null;
  let whole: PackedRow | null = null;
  for (const document of documents) {
    if (document.length === 0) continue;
    segment++;
    const count = document.length + (endId === undefined ? 0 : 1);
    for (let i = 0; i < count; i++) {
      const id = i < document.length ? document[i]! : endId!;
      if (open && (i > 0 || acrossDocuments)) open.labels[open.at] = id;
      // a full row waits for its last label
      if (whole) {
        yield whole;
        whole = null;
      }
      row.ids[filled] = id;
      row.segments[filled] = segment;
      open = { labels: row.labels, at: filled };
      if (++filled === length) {
        whole = row;
        row = emptyRow(length);
        filled = 0;
        segment = i === count - 1 ? 0 : 1;
      }
    }
  }
  if (whole) yield whole;
  if (filled > 0) yield row;
}

function emptyRow(length: number): PackedRow {
  return { ids: new Int32Array(length), labels: new Int32Array(length).fill(-1), segments: new Int32Array(length) };
}
