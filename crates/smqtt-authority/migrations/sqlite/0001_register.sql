-- The authority's register. Times are seconds since 1970-01-01T00:00:00Z.

-- One row: what is true of the authority as a whole.
CREATE TABLE state (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch  INTEGER NOT NULL CHECK (epoch >= 0),
    -- Where devices reach the authority and the broker, as the service was last told.
    url    TEXT,
    broker TEXT
) STRICT;

INSERT INTO state (one, epoch) VALUES (1, 1);

CREATE TABLE device (
    name       TEXT    NOT NULL PRIMARY KEY,
    -- Canonical text of the policy language, without the epoch.
    attributes TEXT    NOT NULL,
    created    INTEGER NOT NULL
) STRICT;

-- One-time enrolment tokens, by SHA-256 only.
CREATE TABLE token (
    digest  BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    device  TEXT    NOT NULL REFERENCES device (name),
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    -- When it was exchanged for a certificate; set in the transaction that records the certificate.
    used    INTEGER
) STRICT;

-- A device has at most one token that could still be used.
CREATE UNIQUE INDEX token_open ON token (device) WHERE used IS NULL;

CREATE TABLE certificate (
    -- Grows: the newest of a device has its highest.
    id          INTEGER NOT NULL PRIMARY KEY,
    serial      TEXT    NOT NULL UNIQUE,
    -- NULL for a server's.
    device      TEXT    REFERENCES device (name),
    subject     TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    issued      INTEGER NOT NULL,
    der         BLOB    NOT NULL
) STRICT;

CREATE INDEX certificate_device ON certificate (device, id);

-- Attribute keys are not kept, only the fact that they were issued.
CREATE TABLE attribute_key (
    id         INTEGER NOT NULL PRIMARY KEY,
    device     TEXT    NOT NULL REFERENCES device (name),
    epoch      INTEGER NOT NULL,
    attributes TEXT    NOT NULL,
    serial     TEXT    NOT NULL REFERENCES certificate (serial),
    issued     INTEGER NOT NULL
) STRICT;

CREATE INDEX attribute_key_device ON attribute_key (device, issued);

-- What was done, by whom, with what outcome. Each row's chain value covers the row and its predecessor's chain value.
CREATE TABLE audit (
    sequence INTEGER NOT NULL PRIMARY KEY,
    time     INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    outcome  TEXT    NOT NULL,
    detail   TEXT    NOT NULL,
    chain    BLOB    NOT NULL CHECK (length(chain) = 32)
) STRICT;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- Each device with its newest certificate, the epoch of its newest attribute key, and its token that could be used.
CREATE VIEW device_overview AS
SELECT device.name, device.attributes, device.created,
       certificate.serial, certificate.fingerprint, certificate.not_after,
       (SELECT MAX(attribute_key.epoch) FROM attribute_key WHERE attribute_key.device = device.name) AS key_epoch,
       token.expires AS token_expires
FROM device
LEFT JOIN certificate ON certificate.id =
    (SELECT MAX(newest.id) FROM certificate AS newest WHERE newest.device = device.name)
LEFT JOIN token ON token.device = device.name AND token.used IS NULL;
