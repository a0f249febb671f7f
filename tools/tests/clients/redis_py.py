"""redis-py, its ordinary and its asynchronous client, in both protocols, at port $PORT."""

import asyncio
import os
import threading

import redis
import redis.asyncio

PORT = int(os.environ["PORT"])


def refused(call, text):
    try:
        call()
    except redis.ResponseError as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"not refused: {text}")


def strings(r):
    assert r.set("s", "v", ex=100) and r.get("s") == b"v" and 0 < r.ttl("s") <= 100
    assert r.set("s", "w", nx=True) is None and r.set("s", "w", get=True) == b"v"
    assert r.mset({"a": 1, "b": 2}) and r.mget("a", "b", "absent") == [b"1", b"2", None]
    assert r.incr("a", 41) == 42 and r.incrbyfloat("f", 0.5) == 0.5
    assert r.append("s", "x") == 2 and r.getrange("s", 0, -1) == b"wx" and r.strlen("s") == 2
    assert r.setbit("bits", 7, 1) == 0 and r.bitcount("bits") == 1 and r.getbit("bits", 7) == 1
    assert r.bitfield("field").set("u8", 0, 200).incrby("u8", 0, 100).execute() == [0, 44]
    assert r.lcs("a", "b") == b"2" and r.lcs("a", "b", len=True) == 1
    assert r.getdel("f") == b"0.5" and r.exists("f") == 0
    assert r.type("s") == b"string" and r.object("encoding", "a") == b"int" and r.memory_usage("s") > 0
    assert r.expire("s", 100) and not r.expire("s", 50, gt=True) and r.persist("s") and r.ttl("s") == -1
    assert r.copy("s", "copied") and r.rename("copied", "renamed") and r.delete("renamed", "absent") == 1


def hashes(r):
    assert r.hset("h", mapping={"a": 1, "b": 2, "c": 3}) == 3
    assert r.hgetall("h") == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert r.hincrby("h", "a", 9) == 10 and r.hincrbyfloat("h", "b", 0.5) == 2.5
    assert r.hmget("h", "a", "absent") == [b"10", None] and r.hlen("h") == 3
    assert sorted(r.hkeys("h")) == [b"a", b"b", b"c"] and len(r.hvals("h")) == 3
    assert r.hexists("h", "c") and r.hdel("h", "c") == 1
    assert len(r.hrandfield("h", 2, withvalues=True)) in (2, 4)
    r.hset("wide", mapping={f"f{n}": n for n in range(2000)})
    assert dict(r.hscan_iter("wide", count=100)) == {b"f%d" % n: b"%d" % n for n in range(2000)}


def keys(r):
    with r.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"scan:{n}", n)
        assert pipe.execute() == [True] * 1000
    assert len(set(r.scan_iter("scan:*", count=50))) == 1000
    assert len(r.keys("scan:99*")) == 11 and r.dbsize() >= 1000
    assert r.randomkey() is not None


def transactions(r):
    # A pipeline is MULTI and EXEC unless told otherwise.
    with r.pipeline() as pipe:
        assert pipe.set("{x}1", 1).incr("{x}1").hset("{y}2", "f", "v").get("{x}1").execute() == [True, 2, 1, b"2"]
    with r.pipeline() as pipe:
        pipe.set("n", "text").incr("n").get("n")
        assert [type(result) for result in pipe.execute(raise_on_error=False)] == [bool, redis.ResponseError, bytes]
    with r.pipeline() as pipe:
        pipe.watch("n")
        r.set("n", "changed meanwhile")
        pipe.multi()
        pipe.set("n", "lost")
        try:
            pipe.execute()
        except redis.WatchError:
            pass
        else:
            raise AssertionError("a watched key had changed")
    r.set("count", 0)

    def add(pipe):
        value = int(pipe.get("count"))
        pipe.multi()
        pipe.set("count", value + 1)

    adders = [threading.Thread(target=lambda: [r.transaction(add, "count") for _ in range(25)]) for _ in range(8)]
    [adder.start() for adder in adders]
    [adder.join() for adder in adders]
    assert r.get("count") == b"200"


def server(r):
    assert r.ping() and r.echo("x") == b"x" and r.time()[0] > 0
    assert r.info()["redis_version"] and r.info("clients")["connected_clients"] >= 1
    assert r.config_get("maxclients") and r.config_set("slowlog-max-len", 64) and r.config_resetstat()
    assert r.client_setname("me") and r.client_getname() in (b"me", "me") and r.client_id() > 0
    mine = [client for client in r.client_list() if client["name"] == "me"]
    assert mine and mine[0]["lib-name"].startswith("redis-py"), mine
    assert r.command_count() > 80 and {"get", b"get"} & set(r.command())
    got = r.command_getkeys("MSET", "a", 1, "b", 2)
    assert len(got) == 2, got
    assert isinstance(r.slowlog_get(), list) and r.slowlog_reset() and r.latency_latest() == []
    refused(lambda: r.lpush("l", 1), "unknown command 'LPUSH'")
    r.set("text", "x")
    refused(lambda: r.incr("text"), "not an integer")
    refused(lambda: r.hget("text", "f"), "wrong kind of value")
    refused(lambda: r.execute_command("SELECT", 1), "out of range")


async def asynchronous(protocol):
    r = redis.asyncio.Redis(port=PORT, protocol=protocol)
    assert await r.ping()
    async with r.pipeline() as pipe:
        assert await pipe.set("async", 1).incr("async").execute() == [True, 2]
    got = await asyncio.gather(*(r.incr("gathered") for _ in range(50)))
    assert sorted(got) == list(range(1, 51))
    await r.aclose()


for protocol in (2, 3):
    r = redis.Redis(port=PORT, protocol=protocol)
    r.flushall()
    for test in (strings, hashes, keys, transactions, server):
        test(r)
    r.close()
    asyncio.run(asynchronous(protocol))
decoded = redis.Redis(port=PORT, decode_responses=True, client_name="decoded", health_check_interval=1)
assert decoded.set("d", "\u00fc") and decoded.get("d") == "\u00fc" and decoded.client_getname() == "decoded"
print("redis-py", redis.__version__)
