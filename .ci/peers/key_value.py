"""redis-py speaks to the example `key_value`: values, pipelines, expiry, messages."""

import sys, threading, time
import redis

address = sys.argv[1]

def connect(**options):
    options = {"socket_timeout": 30, "protocol": 2, **options}
    if address.startswith("unix:"):
        return redis.Redis(unix_socket_path=address[len("unix:"):], **options)
    host, port = address.rsplit(":", 1)
    return redis.Redis(host=host, port=int(port), **options)

def refused(call, words):
    try:
        call()
    except redis.RedisError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{words} should have come")

client = connect()
print("redis-py", redis.__version__)
assert client.ping()
value = bytes(range(256)) * 4000
assert client.set("value", value) and client.get("value") == value
assert client.get("none") is None
assert client.mget("value", "none") == [value, None]
assert [client.incr("count") for _ in range(3)][-1] == int(client.get("count"))
client.delete("letters")
assert client.lpush("letters", "a", "b", "c") == 3
assert client.lrange("letters", 0, -1) == [b"c", b"b", b"a"]
assert client.delete("letters", "none") == 1
assert client.config_get("save") == {"save": ""}
refused(lambda: client.incr("value"), "not an integer")
refused(lambda: client.lpush("value", "x"), "wrong kind")
refused(lambda: client.execute_command("NONSENSE", 1), "unknown command")
refused(lambda: client.execute_command("GET"), "wrong number of arguments")
refused(lambda: connect(protocol=3).ping(), "unsupported protocol version")
assert client.ping(), "and the connection goes on"

with client.pipeline(transaction=False) as pipeline:
    for number in range(10_000):
        pipeline.set(f"key {number}", number)
        pipeline.get(f"key {number}")
    replies = pipeline.execute()
assert replies[1::2] == [b"%d" % number for number in range(10_000)]

assert client.expire("count", 1) and not client.expire("none", 1)
assert client.expire("value", 1000)
deadline = time.monotonic() + 20
while client.get("count") is not None:
    assert time.monotonic() < deadline, "it does not expire"
    time.sleep(0.01)
assert client.get("value") == value

MESSAGES = 1000
got = []

def listen(pubsub):
    for message in pubsub.listen():
        if message["type"] == "message":
            got.append((message["channel"], message["data"]))
        if len(got) == MESSAGES:
            return

pubsub = connect().pubsub()
pubsub.subscribe("news", "weather")
for count in 1, 2:
    message = pubsub.get_message(timeout=20)
    assert message["type"] == "subscribe" and message["data"] == count, message
pubsub.ping("still there?")
message = pubsub.get_message(timeout=20)
assert message["type"] == "pong" and message["data"] == b"still there?", message
thread = threading.Thread(target=listen, args=[pubsub], daemon=True)
thread.start()
assert client.publish("nobody", "x") == 0
for number in range(MESSAGES):
    assert client.publish("news" if number % 2 else "weather", number) == 1
thread.join(20)
assert got == [(b"news" if number % 2 else b"weather", b"%d" % number)
               for number in range(MESSAGES)], got[-1:]
pubsub.unsubscribe()
for count in 1, 0:
    message = pubsub.get_message(timeout=20)
    assert message["type"] == "unsubscribe" and message["data"] == count, message
assert client.publish("news", "x") == 0
print(f"{MESSAGES} messages in order")
