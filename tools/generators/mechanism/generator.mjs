export default async function mechanism(tree, options) {
  console.log(options);
}
