/** Statements that set `<name>` to the logistic function of `<of>`, without exponentials of large positive numbers. */
export function sigmoidText(name: string, of: string): string {
  return `const ${name}Small = Math.exp(-Math.abs(${of}));
    let ${name} = 1 / (1 + ${name}Small);
    if (${of} < 0) { ${name} = ${name}Small / (1 + ${name}Small); }`;
}

/** Statements that set `<name>` to cap * tanh(of / cap), and `<name>Slope` to its derivative. */
export function softCapText(name: string, of: string, cap: string): string {
  return `const ${name}Small = Math.exp(-2 * Math.abs(${of} / ${cap}));
    let ${name}Ratio = (1 - ${name}Small) / (1 + ${name}Small);
    if (${of} < 0) { ${name}Ratio = -${name}Ratio; }
    const ${name} = ${cap} * ${name}Ratio;
    const ${name}Slope = 1 - ${name}Ratio * ${name}Ratio;`;
}
