// A client of embedq for Node.js over the package celery-node. What that package leaves out, and why this does not
// call its `applyAsync`, is in docs/languages.md.

import { randomUUID } from "node:crypto";
import celery from "celery-node";

export class CeleryClient {
  #celery;
  #source;
  #lastVersion = 0;

  // `source` names this service in dead letters; `keyPrefix` is the deployment's EMBEDQ_KEY_PREFIX, if it has one.
  constructor(url, { source = null, keyPrefix = "" } = {}) {
    this.#source = source;
    this.#celery = celery.createClient(url);
    const { username, password } = new URL(url);
    // Its Redis client takes no user from a URL, and its ready check asks for INFO, which a producer's user may not.
    const credentials = { username: decodeURIComponent(username), password: decodeURIComponent(password) };
    this.#celery.conf.CELERY_BROKER_OPTIONS = { ...credentials, keyPrefix, enableReadyCheck: false };
  }

  // Enqueues up to 256 items, 1 MiB in all, in one message. When it has returned, Redis has it.
  async enqueue(collection, items, { lane = "live" } = {}) {
    const { broker } = this.#celery;
    const now = await microseconds(broker.redis);
    const versioned = items.map((item) => ({ version: this.#nextVersion(now), ...item }));
    const job = { v: 1, collection, source: this.#source, items: versioned };
    const { headers, properties, body } = this.#celery.createTaskMessage(randomUUID(), "embedq.embed", [], { job });
    Object.assign(headers, {
      shadow: `embedq.embed:${collection}`,
      argsrepr: "()",
      kwargsrepr: `{'job': <${items.length} items>}`,
      ignore_result: true,
      embedq_enqueued_at: now / 1e6,
    });
    const queue = lane === "live" ? `embedq.${collection}` : `embedq.${collection}.${lane}`;
    await broker.publish(body, "", queue, headers, properties);
  }

  async close() {
    await this.#celery.broker.disconnect();
  }

  #nextVersion(now) {
    this.#lastVersion = Math.max(this.#lastVersion + 1, now);
    return this.#lastVersion;
  }
}

// By the broker's clock, since the epoch.
async function microseconds(redis) {
  const [seconds, rest] = await redis.time();
  return Number(seconds) * 1e6 + Number(rest);
}
