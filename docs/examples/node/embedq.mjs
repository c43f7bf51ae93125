// A client of embedq for Node.js over plain Redis, written from docs/contract.md and docs/job.schema.json alone.
// docs/languages.md shows its use.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { Ajv2020 } from "ajv/dist/2020.js";
import { Redis } from "ioredis";

const MAX_ITEMS = 256;
const MAX_BYTES = 1_048_576;
const SCHEMA = JSON.parse(readFileSync(new URL("../../job.schema.json", import.meta.url), "utf8"));
const isJob = new Ajv2020().compile(SCHEMA);

export class Client {
  #redis;
  #source;
  #registry = {};
  #lastVersion = 0;

  // `keyPrefix` is the deployment's EMBEDQ_KEY_PREFIX, if it has one; `source` names this service in dead letters.
  constructor(url, { source = null, keyPrefix = "" } = {}) {
    // The ready check asks for INFO, which a producer's user may not.
    this.#redis = new Redis(url, { keyPrefix, enableReadyCheck: false });
    this.#source = source;
  }

  // Enqueues items ({id, text, metadata?, version?}, or {id, deleted: true}) in full messages. When it has returned,
  // Redis has them. Throws, before anything is sent, for an unknown collection and for what the schema refuses.
  async enqueue(collection, items, { lane = "live" } = {}) {
    const versions = await this.#versionsOf(collection);
    const now = await this.#microseconds();
    const versioned = items.map((item) => ({ ...item, version: this.#versionFor(item, versions, now) }));
    const jobs = [...this.#jobs(collection, versioned)];
    const queue = lane === "live" ? `embedq.${collection}` : `embedq.${collection}.${lane}`;
    for (const job of jobs) {
      const counts = `{'job': <${job.items.length} items>}`;
      const headers = headersOf("embedq.embed", collection, now, { kwargsrepr: counts });
      await this.#redis.lpush(queue, envelope(headers, queue, [[], { job }, {}]));
    }
  }

  // Removes the rows of these ids. `version` is needed for a collection of given versions.
  async delete(collection, ids, { version } = {}) {
    await this.enqueue(collection, ids.map((id) => ({ id, version, deleted: true })));
  }

  // The vector of a text, before all other work; throws after `timeout` seconds.
  async embedQuery(collection, text, { timeout = 5 } = {}) {
    const now = await this.#microseconds();
    const queue = `embedq.${collection}.query`;
    const expires = new Date(now / 1e3 + timeout * 1e3).toISOString().replace("Z", "+00:00");
    const headers = headersOf("embedq.query", collection, now, { kwargsrepr: "{}", expires });
    const payload = envelope(headers, queue, [[], { v: 1, collection, text }, {}]);
    const transaction = this.#redis.multi().lpush(queue, payload).lpush("embedq:wake", 1).ltrim("embedq:wake", 0, 63);
    for (const [error] of await transaction.exec()) if (error) throw error;
    return this.#reply(headers.id, collection, timeout);
  }

  // Waits on a connection of its own: BLPOP holds up all others of its connection.
  async #reply(taskId, collection, timeout) {
    const waiting = this.#redis.duplicate();
    try {
      const answer = await waiting.blpop(`embedq:reply:${taskId}`, timeout);
      if (answer === null) throw new Error(`no worker answered a query of ${collection} within ${timeout} s`);
      const reply = JSON.parse(answer[1]);
      if (reply.error) throw new Error(`${reply.error}: ${reply.explanation}`);
      return reply;
    } finally {
      waiting.disconnect();
    }
  }

  async close() {
    await this.#redis.quit();
  }

  async #versionsOf(collection) {
    if (!(collection in this.#registry)) this.#registry = await this.#redis.hgetall("embedq:registry");
    if (!collection || !(collection in this.#registry)) {
      const names = Object.keys(this.#registry).filter((name) => name).sort();
      throw new Error(`there is no collection ${JSON.stringify(collection)}; there are: ${names.join(", ") || "none"}`);
    }
    return JSON.parse(this.#registry[collection]).versions;
  }

  #versionFor(item, versions, now) {
    if (versions === "given" && item.version == null) throw new Error(`the item ${item.id} has no version`);
    if (versions === "given") return item.version;
    if (item.version != null) throw new Error(`the item ${item.id} has a version: here the clock gives them`);
    this.#lastVersion = Math.max(this.#lastVersion + 1, now);
    return this.#lastVersion;
  }

  // The broker's clock: asked each time here, so that no offset has to be kept.
  async #microseconds() {
    const [seconds, microseconds] = await this.#redis.time();
    return Number(seconds) * 1e6 + Number(microseconds);
  }

  *#jobs(collection, items) {
    const job = (some) => ({ v: 1, collection, source: this.#source, items: some });
    let [some, bytes] = [[], MAX_BYTES];
    for (const item of items) {
      const size = Buffer.byteLength(JSON.stringify(item)) + 1;
      if (some.length > 0 && (some.length === MAX_ITEMS || bytes + size > MAX_BYTES)) {
        yield checked(job(some));
        some = [];
      }
      if (some.length === 0) bytes = Buffer.byteLength(JSON.stringify(job([])));
      some.push(item);
      bytes += size;
    }
    if (some.length > 0) yield checked(job(some));
  }
}

// What the schema cannot say, such as a NUL in a text, a worker finds: the item becomes a dead letter.
function checked(job) {
  if (isJob(job)) return job;
  const { instancePath, message } = isJob.errors[0];
  throw new Error(`job${instancePath} ${message}`);
}

// The headers of a message, with counts and never a text; `now` in microseconds by the broker's clock.
export function headersOf(task, collection, now, changes) {
  const id = randomUUID();
  return {
    lang: "js", task, id, root_id: id, parent_id: null, group: null, shadow: `${task}:${collection}`, retries: 0,
    eta: null, expires: null, timelimit: [null, null], argsrepr: "()", origin: `gen${process.pid}@${hostname()}`,
    ignore_result: true, embedq_enqueued_at: now / 1e6, ...changes,
  };
}

// A message as it stands in Redis: that of Celery's protocol 2 in kombu's envelope.
export function envelope(headers, queue, body) {
  return JSON.stringify({
    body: Buffer.from(JSON.stringify(body)).toString("base64"),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    headers,
    properties: {
      correlation_id: headers.id, reply_to: "", delivery_mode: 2, priority: 0, body_encoding: "base64",
      delivery_info: { exchange: "", routing_key: queue }, delivery_tag: randomUUID(),
    },
  });
}
