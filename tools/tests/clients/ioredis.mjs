// ioredis at port $PORT.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const modules = createRequire(`${process.env.NODE_MODULES}/`);
const Redis = modules("ioredis");
const client = new Redis({ port: Number(process.env.PORT), connectionName: "io", maxRetriesPerRequest: 0 });

assert.equal(await client.ping(), "PONG");
await client.flushall();
assert.equal(await client.set("s", "v", "EX", 100), "OK");
assert.deepEqual(await client.mget("s", "absent"), ["v", null]);
await client.hset("h", { f: 1, g: 2 });
assert.deepEqual(await client.hgetall("h"), { f: "1", g: "2" });
assert.deepEqual(await client.pipeline().set("a", 1).incr("a").get("a").exec(), [[null, "OK"], [null, 2], [null, "2"]]);
assert.deepEqual(await client.multi().set("{x}1", 1).incr("{y}2").exec(), [[null, "OK"], [null, 1]]);
assert.deepEqual(await client.getBuffer("s"), Buffer.from("v"));
const found = new Set();
for (let n = 0; n < 300; n++) await client.set(`scan:${n}`, "x");
for await (const keys of client.scanStream({ match: "scan:*", count: 20 })) keys.forEach((key) => found.add(key));
assert.equal(found.size, 300);
assert.equal(await client.client("GETNAME"), "io");
await assert.rejects(client.lpush("l", 1), /unknown command 'lpush'/);
await client.quit();
console.log("ioredis", modules("ioredis/package.json").version);
