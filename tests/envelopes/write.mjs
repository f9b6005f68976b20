// Writes one envelope in each way that JavaScript's JSON has: node write.mjs > node.txt

const messages = [
  1, -0.5, 1e30, 'h\u00e9llo\n"\\/', '\u{1f600}', '\u2028\u007f', null, true, {}, [],
  { a: [1, { b: null }] }, { type: 'batch', batch_size: 1, messages: [0] },
]
const envelope = { type: 'batch', batch_size: messages.length, messages }
const reversed = Object.fromEntries(Object.entries(envelope).reverse())
const ways = [
  JSON.stringify(envelope),
  JSON.stringify(reversed),
  JSON.stringify(envelope, null, 2),
  JSON.stringify(reversed, null, '\t'),
]

process.stdout.write(ways.join('\n---\n'))
