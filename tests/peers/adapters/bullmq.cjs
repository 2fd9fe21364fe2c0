// /// script
// dependencies = ["bullmq@6.7.0", "ioredis@5.11.1"]
// [tool.peers]
// title = "BullMQ (Node)"
// settings = """
// concurrency 100 (default 1), removeOnComplete, lockDuration and stalledInterval 5 s (30 s)"""
// words = """
// Priorities, LIFO, rate limits, flows, repeated jobs, events, dashboards. Order where the global
// concurrency is 1, by group in the paid Pro. Messages of a killed worker come back after a lock
// and a stalled check."""
// ///
// BullMQ, by the same commands as `tests/peers/speak.py`. Its guide advises a high concurrency where
// handlers wait more than they compute, and removeOnComplete where jobs need not be kept. The
// bodies are told of as `tests/peers/handler.py` does.

const fs = require("node:fs");
const { Queue, Worker } = require("bullmq");

const { hostname, port } = new URL(process.env.PEERS_URL);
const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null };
const BATCH = 500;
const options = { removeOnComplete: true, removeOnFail: true };

function body(n, due = 0) {
  const made = { n, due, pad: "" };
  return { ...made, pad: "x".repeat(100 - JSON.stringify(made).length) };
}

async function speak(command, first, count, third, spanSeconds) {
  const queue = new Queue("peers", { connection });
  await queue.waitUntilReady();
  const bodies = Array.from({ length: count }, (_, i) => body(first + i));
  const start = performance.now();
  const until = start + third * 1000;
  const at = Date.now() + Math.trunc(third * 1000);
  let published = 0;
  if (command === "publish") {
    while (published < count && performance.now() < until)
      await queue.add("handle", bodies[published++], options);
  } else if (command === "bulk") {
    while (published < count && performance.now() < until) {
      const some = bodies.slice(published, published + BATCH);
      await queue.addBulk(some.map((data) => ({ name: "handle", data, opts: options })));
      published += some.length;
    }
  } else {
    for (; published < count; published++) {
      const due = Math.trunc(at + (published * spanSeconds * 1000) / count);
      const delay = Math.max(0, due - Date.now());
      await queue.add("handle", body(first + published, due), { ...options, delay });
    }
  }
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ published, seconds, at_ms: at }));
  await queue.close();
}

function consume() {
  const every = Number(process.env.PEERS_EVERY ?? "1");
  const holds = process.env.PEERS_HOLD === "1";
  const pipe = fs.openSync(process.env.PEERS_PIPE, "w");
  let handled = 0;
  async function handle({ data }) {
    handled += 1;
    if (handled === 1 || handled % every === 0) {
      const now = performance.timeOrigin + performance.now();
      fs.writeSync(pipe, `${handled} ${data.n} ${data.due} ${now}\n`);
    }
    if (holds) await new Promise(() => {});
  }
  // A job whose lock ran out is found by the next stalled check.
  new Worker("peers", handle, {
    connection, concurrency: 100, lockDuration: 5000, stalledInterval: 5000,
  });
}

const [command, ...numbers] = process.argv.slice(2);
if (command === "consume") consume();
else speak(command, ...numbers.map(Number));
