// Links: asks every link of a list, and reports what each one answered.
//
// A worker in JavaScript. README.md beside it tells how to build and try it.

// How many links a step asks, all at the same time.
const LINKS = 4;
// How many milliseconds a link may take to answer. A step has to end long before AFTERACK_LEASE, which `make up` makes 5 s.
const PATIENCE = 3_000;

const read = (body) => new TextDecoder('utf-8', { fatal: true }).decode(body);
const lines = (text) => text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== '');
const encode = (value) => new TextEncoder().encode(JSON.stringify(value));

export const worker = {
  check({ contentType, body }) {
    const kind = (contentType ?? 'none').split(';')[0].trim().toLowerCase();
    if (kind !== 'text/plain') {
      throw { tag: 'unsupported-media-type', val: `unsupported Content-Type: ${kind} (expected text/plain)` };
    }
    let links;
    try {
      links = lines(read(body));
    } catch {
      throw { tag: 'bad-request', val: `invalid input: ${body.length} bytes that are not UTF-8 (expected UTF-8)` };
    }
    if (links.length === 0 || links.length > 1000) {
      throw { tag: 'unprocessable-content', val: `${links.length} links (expected 1 to 1000, one per line)` };
    }
    const wrong = links.find((link) => !isLink(link));
    if (wrong !== undefined) {
      throw { tag: 'unprocessable-content', val: `invalid link: ${wrong.slice(0, 200)} (expected http://… or https://…)` };
    }
  },

  async step({ attempt, input, checkpoint }) {
    const links = lines(read(input.body));
    // Nothing is kept here between two steps: what came of the links before is in the checkpoint.
    const results = checkpoint === undefined ? [] : JSON.parse(read(checkpoint));
    const next = links.slice(results.length, results.length + LINKS);
    results.push(...(await Promise.all(next.map((link) => ask(link, attempt)))));
    if (results.length === links.length) {
      return { tag: 'done', val: { contentType: 'application/json', body: encode(results) } };
    }
    const failed = results.filter(({ error, status }) => error !== undefined || status >= 400).length;
    const progress = { done: results.length, total: links.length, message: `links are asked, ${failed} failed` };
    return { tag: 'again', val: { checkpoint: encode(results), progress } };
  },
};

function isLink(text) {
  try {
    return ['http:', 'https:'].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}

async function ask(url, attempt) {
  let response;
  try {
    response = await Promise.race([fetch(url), late()]);
  } catch (error) {
    return { url, error: error.message };
  }
  const { status } = response;
  await response.body?.cancel(); // Only the status is of interest.
  // Who asks to be asked later is, once.
  const after = Number(response.headers.get('retry-after'));
  if ((status === 429 || status === 503) && after > 0 && attempt === 1) {
    throw { tag: 'retry', val: { message: `${url} answered ${status}`, after: BigInt(Math.ceil(after * 1000)) } };
  }
  return { url, status };
}

const late = () =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`no answer in ${PATIENCE} ms`)), PATIENCE));
