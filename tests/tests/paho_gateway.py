"""Unchanged paho-mqtt clients at a gateway on 127.0.0.1:PORT.

    paho_gateway.py PORT discovery    what Home Assistant and its devices do
    paho_gateway.py PORT restart      QoS 1 while the broker behind the gateway goes and comes: prints `stop` and `start`
                                      when it is to, and reads a line when that is done
    paho_gateway.py PORT forgetful    the same with a broker that forgets its sessions
    paho_gateway.py PORT leave        subscribes with a session that stays, prints `subscribed`, takes one message and goes
    paho_gateway.py PORT return       comes back to it, does not subscribe, and takes two

Prints `ok` and what was shown, a line each. Exit code 0 only if everything is as it would be without a gateway.
"""

import json
import queue
import socket
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

port, scenario = int(sys.argv[1]), sys.argv[2]
PATIENCE = 60.0
VERSIONS = (("3.1.1", mqtt.MQTTv311), ("5", mqtt.MQTTv5))


class Client:
    def __init__(self, name, protocol, will=None, persistent=False):
        more = {} if protocol == mqtt.MQTTv5 else {"clean_session": not persistent}
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, **more)
        self.client.reconnect_delay_set(0.1, 1)
        self.connected, self.subscribed, self.messages = queue.Queue(), queue.Queue(), queue.Queue()
        self.client.on_connect = lambda c, u, flags, reason, p: self.connected.put((flags, reason))
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.subscribed.put(reasons)
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        if will:
            self.client.will_set(*will, qos=1, retain=True)
        options = {}
        if protocol == mqtt.MQTTv5:
            options["clean_start"] = not persistent
            if persistent:
                options["properties"] = mqtt.Properties(mqtt.PacketTypes.CONNECT)
                options["properties"].SessionExpiryInterval = 3600
        self.client.connect("127.0.0.1", port, keepalive=30, **options)
        self.client.loop_start()
        flags, reason = self.connected.get(timeout=PATIENCE)
        assert not reason.is_failure, reason
        self.session_present = flags.session_present

    def subscribe(self, topic, qos=1):
        self.client.subscribe(topic, qos=qos)
        reasons = self.subscribed.get(timeout=PATIENCE)
        assert [r.value for r in reasons] == [qos], reasons
        return self

    def publish(self, topic, payload, qos=1, retain=False):
        self.client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(PATIENCE)

    def expect(self, topic, payload, retain=False):
        message = self.messages.get(timeout=PATIENCE)
        assert (message.topic, message.payload, bool(message.retain)) == (topic, payload, retain), (
            message.topic, message.payload, message.retain, "wanted", topic, payload, retain)

    def expect_nothing_more(self):
        """Everything that was sent before a round trip has come."""
        self.publish("house/mark", b"mark")
        message = self.messages.get(timeout=PATIENCE)
        assert message.topic == "house/mark", (message.topic, message.payload)

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()

    def die(self):
        """As a device that loses its power: no DISCONNECT."""
        self.client.loop_stop()
        raw = self.client.socket()
        raw.shutdown(socket.SHUT_RDWR)
        raw.close()


def discovery(version, protocol):
    node = f"thermometer-{version.replace('.', '')}"
    config, state, availability = f"homeassistant/sensor/{node}/config", f"house/{node}/state", f"house/{node}/availability"
    described = json.dumps({"name": "Kitchen", "state_topic": state, "availability_topic": availability}).encode()

    hub = Client(f"hub-{version}", protocol, will=("homeassistant/status", b"offline"))
    hub.subscribe("homeassistant/#").subscribe("house/#", qos=1)
    hub.publish("homeassistant/status", b"online", retain=True)
    hub.expect("homeassistant/status", b"online")

    device = Client(node, protocol, will=(availability, b"offline"))
    device.publish(config, described, retain=True)
    hub.expect(config, described)
    device.publish(availability, b"online", retain=True)
    hub.expect(availability, b"online")
    for qos in (0, 1, 2):
        device.publish(state, bytes(range(256)) + bytes([qos]), qos=qos)
        hub.expect(state, bytes(range(256)) + bytes([qos]))
    print("ok", version, "discovery, birth and states pass unchanged")

    late = Client(f"late-{version}", protocol)
    late.subscribe("homeassistant/+/+/config")
    late.expect(config, described, retain=True)
    late.subscribe(availability)
    late.expect(availability, b"online", retain=True)
    print("ok", version, "retained states wait for late subscribers")

    device.die()
    hub.expect(availability, b"offline")
    late.expect(availability, b"offline")
    print("ok", version, "a will is published when its client dies")

    hub.publish(config, b"", retain=True)
    hub.expect(config, b"")
    late.expect(config, b"")
    hub.publish(availability, b"", retain=True)
    later = Client(f"later-{version}", protocol).subscribe("homeassistant/+/+/config").subscribe("house/mark")
    later.expect_nothing_more()
    print("ok", version, "a retained message can be cleared")

    hub.messages.queue.clear()
    for client in (hub, late, later):
        client.leave()
    again = Client(f"again-{version}", protocol).subscribe("homeassistant/status")
    again.expect("homeassistant/status", b"online", retain=True)
    again.publish("homeassistant/status", b"", retain=True)
    again.leave()
    print("ok", version, "a client that says goodbye has no will")


def persistent(version, protocol):
    reader = Client(f"reader-{version}", protocol, persistent=True)
    assert not reader.session_present
    reader.subscribe("house/counter", qos=1)
    reader.leave()
    writer = Client(f"writer-{version}", protocol)
    for number in range(50):
        writer.publish("house/counter", str(number).encode(), qos=1 + number % 2)
    reader = Client(f"reader-{version}", protocol, persistent=True)
    assert reader.session_present
    for number in range(50):
        reader.expect("house/counter", str(number).encode())
    reader.client.unsubscribe("house/counter")
    reader.leave()
    writer.leave()
    print("ok", version, "a session outlives its connection, with what it missed")


def restart(version, protocol):
    reader = Client(f"reader-{version}", protocol, persistent=True).subscribe("house/counter", qos=1)
    writer = Client(f"writer-{version}", protocol)
    sent = [writer.client.publish("house/counter", str(n), qos=1) for n in range(100)]
    for info in sent:
        info.wait_for_publish(PATIENCE)
    print("stop", flush=True)
    sys.stdin.readline()
    away = [writer.client.publish("house/counter", str(n), qos=1) for n in range(100, 130)]
    deadline = time.monotonic() + PATIENCE
    while writer.client.want_write() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(info.is_published() for info in away), "acknowledged without a broker"
    print("start", flush=True)
    sys.stdin.readline()
    for info in away:
        info.wait_for_publish(PATIENCE)
        assert info.is_published()
    print("ok", version, "nothing was acknowledged before the broker had it")
    for n in range(130, 150):
        writer.publish("house/counter", str(n))
    seen = set()
    while len(seen) < 150:
        seen.add(int(reader.messages.get(timeout=PATIENCE).payload))
    assert seen == set(range(150))
    print("ok", version, "every message of QoS 1 came through")
    for client in (reader, writer):
        client.leave()


def forgetful(version, protocol):
    base = f"house/away-{version}"
    writer = Client(f"writer-{version}", protocol).subscribe(f"{base}/#")
    writer.publish(f"{base}/before", b"before")
    writer.expect(f"{base}/before", b"before")
    print("stop", flush=True)
    sys.stdin.readline()
    away = [writer.client.publish(f"{base}/{n}", str(n), qos=1 + n % 2, retain=True) for n in range(15)]
    deadline = time.monotonic() + PATIENCE
    while writer.client.want_write() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(info.is_published() for info in away), "acknowledged without a broker"
    print("start", flush=True)
    sys.stdin.readline()
    for info in away:
        info.wait_for_publish(PATIENCE)
        assert info.is_published()
    late = Client(f"late-{version}", protocol).subscribe(f"{base}/#")
    seen = {late.messages.get(timeout=PATIENCE).payload for _ in away}
    assert seen == {str(n).encode() for n in range(15)}, seen
    print("ok", version, "every message of QoS 1 and 2 is at the broker")
    late.publish(f"{base}/after", b"after")
    while (message := writer.messages.get(timeout=PATIENCE)).topic != f"{base}/after":
        assert message.topic.startswith(base), message.topic
    print("ok", version, "subscriptions were made again")
    for client in (late, writer):
        client.leave()


def leave(version, protocol):
    reader = Client(f"reader-{version}", protocol, persistent=True).subscribe(f"house/log-{version}")
    print("subscribed", flush=True)
    reader.expect(f"house/log-{version}", b"one")
    reader.leave()
    print("ok", version, "left")


def come_back(version, protocol):
    reader = Client(f"reader-{version}", protocol, persistent=True)
    assert reader.session_present
    reader.expect(f"house/log-{version}", b"two")
    reader.expect(f"house/log-{version}", b"three")
    reader.client.unsubscribe(f"house/log-{version}")
    reader.leave()
    print("ok", version, "what it missed is there, whichever gateway it came by")


for version, protocol in VERSIONS:
    if scenario == "discovery":
        discovery(version, protocol)
        persistent(version, protocol)
    elif scenario == "restart":
        restart(version, protocol)
    elif scenario == "forgetful":
        forgetful(version, protocol)
    elif scenario == "leave":
        leave(version, protocol)
    else:
        come_back(version, protocol)
