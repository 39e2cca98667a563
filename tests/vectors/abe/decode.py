#!/usr/bin/env python3
"""A second decoder of smqtt-abe's objects, written from docs/abe.md and not from the Rust code.

    python3 -m venv venv && venv/bin/pip install py_ecc==8.0.0 cbor2
    venv/bin/python tests/vectors/abe/decode.py            # about two minutes

It reads cp-v1.json and kp-v1.json, finds every shared key with pure Python arithmetic (py_ecc), by
plain Gaussian elimination, repeats the encapsulation, and checks each stated failure. Test-only: it
is slow and not constant-time.
"""

import hashlib
import hmac
import json
import pathlib
import sys

import cbor2
from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import compress_G1, compress_G2, decompress_G1, decompress_G2
from py_ecc.optimized_bls12_381 import (
    FQ12,
    G1,
    G2,
    Z1,
    add,
    curve_order as R,
    is_inf,
    multiply,
    neg,
    pairing,
)
from py_ecc.optimized_bls12_381.optimized_pairing import final_exponentiate

TAGS = {1: b"SMQTT-ABE-V1-FABEO-CP", 2: b"SMQTT-ABE-V1-FABEO-KP"}


class Refused(Exception):
    """Carries the failure class."""


# --- group elements ---------------------------------------------------------------------------


def g1(data):
    """A compressed G1 element: on the curve, in the subgroup, not neutral."""
    assert len(data) == 48
    try:
        point = decompress_G1(int.from_bytes(data, "big"))
    except Exception as error:
        raise Refused("bad-point") from error
    if is_inf(point) or not is_inf(multiply(point, R)) or to_g1(point) != data:
        raise Refused("bad-point")
    return point


def g2(data):
    assert len(data) == 96
    halves = (int.from_bytes(data[:48], "big"), int.from_bytes(data[48:], "big"))
    try:
        point = decompress_G2(halves)
    except Exception as error:
        raise Refused("bad-point") from error
    if is_inf(point) or not is_inf(multiply(point, R)) or to_g2(point) != data:
        raise Refused("bad-point")
    return point


def to_g1(point):
    return int(compress_G1(point)).to_bytes(48, "big")


def to_g2(point):
    x1, x2 = compress_G2(point)
    return int(x1).to_bytes(48, "big") + int(x2).to_bytes(48, "big")


def to_gt(element):
    """Coefficients of w^0 .. w^5 over Fp2. py_ecc writes w^12 = 2 w^6 - 2, so i = w^6 - 1."""
    c = [int(x) for x in element.coeffs]
    p = element.field_modulus
    out = b""
    for k in range(6):
        real, imaginary = (c[k] + c[k + 6]) % p, c[k + 6]
        out += real.to_bytes(48, "big") + imaginary.to_bytes(48, "big")
    return out


def from_gt(data):
    assert len(data) == 576
    c = [0] * 12
    for k in range(6):
        real = int.from_bytes(data[96 * k : 96 * k + 48], "big")
        imaginary = int.from_bytes(data[96 * k + 48 : 96 * k + 96], "big")
        c[k], c[k + 6] = real - imaginary, imaginary
    return FQ12(c)


def multi_pairing(pairs):
    """The product of e(P, Q). py_ecc leaves out that the curve's parameter is negative, and the
    factor three that the usual final exponentiation has: our pairing is its power -3."""
    product = FQ12.one()
    for p, q in pairs:
        if not is_inf(p) and not is_inf(q):
            product *= pairing(q, p, final_exponentiate=False)
    return final_exponentiate(product) ** (R - 3)


# --- hashes -----------------------------------------------------------------------------------


def hkdf(salt, ikm, info, length):
    prk = hmac.new(salt, ikm, hashlib.sha256).digest()
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + block, i + 1
    return out[:length]


class Oracles:
    def __init__(self, suite, parameters_hash):
        self.tag, self.parameters = TAGS[suite], parameters_hash
        self.known = {}

    def hash(self, kind, content):
        message = bytes([kind]) + len(content).to_bytes(4, "big") + content
        if message not in self.known:
            domain = self.tag + b"_with_BLS12381G1_XMD:SHA-256_SSWU_RO_" + self.parameters
            self.known[message] = hash_to_G1(message, domain, hashlib.sha256)
        return self.known[message]

    def b(self):
        return self.hash(0, b"B")

    def attribute(self, encoded):
        return self.hash(1, encoded)

    def context(self, access):
        label = self.tag + b" context"
        data = bytes([len(label)]) + label + self.parameters
        return hashlib.sha256(data + len(access).to_bytes(8, "big") + access).digest()


def coin(context, message, kind, index):
    info = b"coin" + kind + index.to_bytes(4, "big")
    return int.from_bytes(hkdf(context, message, info, 48), "big") % R


def mask(context, d, data):
    return bytes(x ^ y for x, y in zip(hkdf(context, to_gt(d), b"pad", 32), data))


# --- policies ---------------------------------------------------------------------------------


def read_attribute(data, at):
    """The end of the attribute that starts at `at`; only the lengths matter here."""

    def text(at):
        return at + 2 + int.from_bytes(data[at : at + 2], "big")

    tag = data[at]
    at += 1
    if tag == 0x01:  # flag
        return text(at)
    if tag == 0x02:  # value
        return text(text(at))
    if tag == 0x03:  # number: name, scale, low, high
        return text(at) + 17
    if tag == 0x04:  # epoch
        return at + 8
    if tag == 0x05:  # topic level
        return text(at + 1)
    if tag == 0x06:  # topic depth
        return at + 1
    if tag == 0x07:  # ordinary topic
        return at
    raise ValueError(f"attribute tag {tag}")


def read_formula(data, at=0):
    if data[at] != 0x10:
        end = read_attribute(data, at)
        return data[at:end], end
    k = int.from_bytes(data[at + 1 : at + 5], "big")
    n = int.from_bytes(data[at + 5 : at + 9], "big")
    at += 9
    children = []
    for _ in range(n):
        child, at = read_formula(data, at)
        children.append(child)
    return (k, children), at


class Matrix:
    """Rows as {column: entry}, with π(i) and ρ(i) counted from 1."""

    def __init__(self, encoded):
        formula, end = read_formula(encoded)
        assert end == len(encoded)
        self.rows, self.columns = [], 1
        self.share(formula, {0: 1})
        seen = {}
        self.rho = []
        for attribute, _ in self.rows:
            seen[attribute] = seen.get(attribute, 0) + 1
            self.rho.append(seen[attribute])
        self.tau = max(self.rho)

    def share(self, node, vector):
        if isinstance(node, bytes):
            self.rows.append((node, vector))
            return
        k, children = node
        n, first = len(children), self.columns
        if k == 1:
            for child in children:
                self.share(child, dict(vector))
        elif k == n:
            self.columns += n - 1
            for i, child in enumerate(children):
                part = dict(vector) if i == 0 else {first + i - 1: -1}
                if i + 1 < n:
                    part[first + i] = 1
                self.share(child, part)
        else:
            self.columns += k - 1
            for x, child in enumerate(children, 1):
                part = dict(vector)
                for j in range(1, k):
                    part[first + j - 1] = pow(x, j, R)
                self.share(child, part)

    def solve(self, held):
        """{row: γ} with Σ γ M = (1, 0, ..), by Gaussian elimination, or None."""
        rows = [i for i, (attribute, _) in enumerate(self.rows) if attribute in held]
        system = [
            [self.rows[i][1].get(c, 0) % R for i in rows] + [1 if c == 0 else 0]
            for c in range(self.columns)
        ]
        pivots = []
        for unknown in range(len(rows)):
            done = len(pivots)
            found = next((e for e in range(done, self.columns) if system[e][unknown]), None)
            if found is None:
                continue
            system[done], system[found] = system[found], system[done]
            scale = pow(system[done][unknown], -1, R)
            system[done] = [x * scale % R for x in system[done]]
            for e in range(self.columns):
                factor = system[e][unknown]
                if e != done and factor:
                    system[e] = [(x - factor * p) % R for x, p in zip(system[e], system[done])]
            pivots.append(unknown)
        if any(e[-1] for e in system[len(pivots) :]):
            return None
        return {rows[u]: system[e][-1] for e, u in enumerate(pivots) if system[e][-1]}

    def shares(self, vector):
        return [sum(m * vector[c] for c, m in row.items()) % R for _, row in self.rows]


# --- the schemes ------------------------------------------------------------------------------


def conclude(context, ciphertext, d, rejection, again):
    message = mask(context, d, ciphertext[-32:])
    transcript = hashlib.sha256(ciphertext).digest()
    if again(message) == ciphertext:
        return hkdf(context, message, b"key" + transcript, 32)
    return hkdf(context, rejection, b"reject" + transcript, 32)


def cp_decapsulate(suite, parameters, key, attributes, policy, ciphertext):
    _, _, z = parameters
    _, _, parameters_hash, _, rejection, sk1, sk3, sk2 = key
    oracles, matrix = Oracles(suite, parameters_hash), Matrix(policy)
    n, tau = len(matrix.rows), matrix.tau
    if len(ciphertext) != 96 * (1 + tau) + 48 * n + 32:
        raise Refused("wrong-length")
    held = {a: sk2[48 * i : 48 * i + 48] for i, a in enumerate(attributes)}
    gammas = matrix.solve(held)
    if gammas is None:
        raise Refused("not-authorised")
    ct1 = g2(ciphertext[:96])
    ct2 = [g2(ciphertext[96 * j : 96 * j + 96]) for j in range(1, 1 + tau)]
    at = 96 * (1 + tau)
    ct3 = [g1(ciphertext[at + 48 * i : at + 48 * i + 48]) for i in range(n)]

    sums, rows = [Z1] * tau, Z1
    for i, gamma in gammas.items():
        j = matrix.rho[i] - 1
        sums[j] = add(sums[j], multiply(g1(held[matrix.rows[i][0]]), gamma))
        rows = add(rows, multiply(ct3[i], gamma))
    d = multi_pairing([(g1(sk1), ct1), (neg(rows), g2(sk3)), *zip(sums, ct2)])

    context = oracles.context(policy)

    def again(message):
        s = coin(context, message, b"s", 0)
        t = [coin(context, message, b"t", j) for j in range(1, 1 + tau)]
        v = [s] + [coin(context, message, b"v", j) for j in range(1, matrix.columns)]
        out = to_g2(multiply(G2, s)) + b"".join(to_g2(multiply(G2, x)) for x in t)
        for (attribute, _), share, rho in zip(matrix.rows, matrix.shares(v), matrix.rho):
            row = add(
                multiply(oracles.b(), share),
                multiply(oracles.attribute(attribute), t[rho - 1]),
            )
            out += to_g1(row)
        return out + mask(context, from_gt(z) ** s, message)

    return conclude(context, ciphertext, d, rejection, again)


def kp_decapsulate(suite, parameters, key, attributes, encoded_set, ciphertext):
    _, _, z = parameters
    _, _, parameters_hash, policy, rejection, sk1, sk2 = key
    oracles, matrix = Oracles(suite, parameters_hash), Matrix(policy)
    if len(ciphertext) != 96 + 48 * len(attributes) + 32:
        raise Refused("wrong-length")
    gammas = matrix.solve(attributes)
    if gammas is None:
        raise Refused("not-authorised")
    ct1 = g2(ciphertext[:96])
    ct2 = {a: g1(ciphertext[96 + 48 * i : 144 + 48 * i]) for i, a in enumerate(attributes)}
    sums, rows = [Z1] * matrix.tau, Z1
    for i, gamma in gammas.items():
        j = matrix.rho[i] - 1
        sums[j] = add(sums[j], multiply(ct2[matrix.rows[i][0]], gamma))
        rows = add(rows, multiply(g1(sk1[48 * i : 48 * i + 48]), gamma))
    pairs = [(rows, ct1)]
    pairs += [(neg(x), g2(sk2[96 * j : 96 * j + 96])) for j, x in enumerate(sums)]
    d = multi_pairing(pairs)
    context = oracles.context(encoded_set)

    def again(message):
        s = coin(context, message, b"s", 0)
        out = to_g2(multiply(G2, s))
        for attribute in attributes:
            out += to_g1(multiply(oracles.attribute(attribute), s))
        return out + mask(context, from_gt(z) ** s, message)

    return conclude(context, ciphertext, d, rejection, again)


# --- the files --------------------------------------------------------------------------------


def check(path):
    file = json.loads(path.read_text(encoding="utf-8"))
    suite = file["suite"]
    raw = bytes.fromhex(file["setup"]["parameters"])
    parameters = cbor2.loads(raw)
    assert parameters[:2] == [1, suite] and cbor2.dumps(parameters, canonical=True) == raw
    parameters_hash = hashlib.sha256(raw).digest()
    assert parameters_hash.hex() == file["setup"]["parameters_hash"]
    master = cbor2.loads(bytes.fromhex(file["setup"]["master_key"]))
    assert master[:3] == [1, suite, parameters_hash]
    assert to_gt(multi_pairing([(g1(master[3]), G2)])) == parameters[2]

    keys = {}
    for entry in file["keys"]:
        raw = bytes.fromhex(entry["key"])
        key = cbor2.loads(raw)
        assert key[:3] == [1, suite, parameters_hash]
        assert cbor2.dumps(key, canonical=True) == raw
        keys[entry["name"]] = key

    def open_with(name, entry):
        key, encoded = keys[name], bytes.fromhex(entry["encoded"])
        ciphertext = bytes.fromhex(entry["ciphertext"])
        if suite == 1:
            return cp_decapsulate(suite, parameters, key, held[name], encoded, ciphertext)
        attributes = [bytes.fromhex(a) for a in labels[entry["access"], entry["epoch"]]]
        return kp_decapsulate(suite, parameters, key, attributes, encoded, ciphertext)

    labels = {(c["access"], c["epoch"]): c["attributes"] for c in file["ciphertexts"]}
    held = {k["name"]: [bytes.fromhex(a) for a in k["attributes"]] for k in file["keys"]}

    count = 0
    for entry in file["ciphertexts"]:
        for name in entry["opened_by"]:
            assert open_with(name, entry).hex() == entry["shared_key"], (name, entry["proves"])
            count += 1
        for name in entry["refused_to"]:
            try:
                open_with(name, entry)
            except Refused as refused:
                assert str(refused) == "not-authorised"
                count += 1
            else:
                raise AssertionError((name, entry["proves"]))
    for entry in file["failures"]:
        try:
            found = open_with(entry["key"], entry).hex()
        except Refused as refused:
            assert str(refused) == entry["class"], (entry["proves"], refused)
        else:
            assert entry["class"] == "rejected" and found == entry["shared_key"], entry["proves"]
        count += 1
    print(f"{path.name}: {count} decapsulations agree")


def main():
    here = pathlib.Path(__file__).parent
    for name in ("cp-v1.json", "kp-v1.json"):
        check(here / name)


if __name__ == "__main__":
    sys.exit(main())
