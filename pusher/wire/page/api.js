// What the page asks. It asks only where it came from, and an answer is data, whatever it contains.

/** Something that could not be done, as a problem document (RFC 9457) says it. */
export class Problem extends Error {
  constructor(members) {
    super(members.title || "The answer cannot be read");
    this.members = members;
  }
}

/** What a problem says. Whatever else was thrown is a bug, and is thrown on. */
export function told(problem) {
  if (problem instanceof Problem) return problem.members;
  throw problem;
}

let off = 0; // of whoever answers

/** The host that is looked at, and by how many ms the clocks of hosts are ahead of that of whoever answers. */
export const clocks = {looked: "", ahead: new Map()};

/** The time by the clock of a host: what is shown are its times, and the clock of this machine may be wrong. */
export const now = (base = clocks.looked) => Date.now() + off + (clocks.ahead.get(base) ?? 0);

/** The JSON of an answer. Throws: Problem. */
export async function ask(path, options = {}) {
  const response = await got(path, {signal: AbortSignal.timeout(20_000), ...options});
  try {
    return await response.json();
  } catch {
    throw new Problem({title: "The answer cannot be read", detail: path});
  }
}

/** The objects of an answer that comes line by line, as many at a time as have come. Throws: Problem, also when it
 * breaks off. */
export async function* lines(path, signal, opened = () => {}) {
  const response = await got(path, {signal});
  opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const {done, value} = await reader.read().catch(() => { throw new Problem(GONE); });
      if (done) return;
      const whole = (rest + value).split("\n");
      rest = whole.pop();
      const some = whole.filter((line) => line.trim()).map((line) => JSON.parse(line));
      const last = some.at(-1);
      const broken = last?.problem && Object.keys(last).length === 1 ? some.pop() : null;
      if (some.length) yield some;
      if (broken) throw new Problem(broken.problem);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Wait; less if `signal` says so. */
export const rest = (ms, signal) =>
  new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end); // else a page that is open for days would have a million of them
      done();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });

/** Return when the page can be seen. */
export const seen = () =>
  document.hidden ? new Promise((done) => document.addEventListener("visibilitychange", done, {once: true})) : undefined;

const GONE = {title: "No answer", detail: "the connection is gone", hint: "The page goes on by itself when there is one", code: "gone"};

async function got(path, options) {
  let response;
  try {
    response = await fetch(path, {cache: "no-store", redirect: "error", ...options});
  } catch (error) {
    throw options.signal?.aborted && error.name !== "TimeoutError" ? error : new Problem(GONE);
  }
  const difference = Date.parse(response.headers.get("Date")) - Date.now();
  if (Number.isFinite(difference)) off = Math.abs(difference) < 3000 ? 0 : difference;
  if (response.ok) return response;
  const members = await response.json().catch(() => ({title: `The answer is ${response.status}`}));
  throw new Problem(members);
}
