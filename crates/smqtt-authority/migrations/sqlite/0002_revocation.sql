-- Certificates that were taken back. Each stands on every revocation list from then until it expires.
CREATE TABLE revocation (
    serial  TEXT    NOT NULL PRIMARY KEY REFERENCES certificate (serial),
    revoked INTEGER NOT NULL,
    reason  TEXT    NOT NULL
) STRICT;

-- Revocation lists that were issued. Numbers grow by one.
CREATE TABLE revocation_list (
    number      INTEGER NOT NULL PRIMARY KEY,
    issued      INTEGER NOT NULL,
    next_update INTEGER NOT NULL
) STRICT;

-- As before, with when the newest certificate was taken back.
DROP VIEW device_overview;

CREATE VIEW device_overview AS
SELECT device.name, device.attributes, device.created,
       certificate.serial, certificate.fingerprint, certificate.not_after,
       (SELECT MAX(attribute_key.epoch) FROM attribute_key WHERE attribute_key.device = device.name) AS key_epoch,
       token.expires AS token_expires,
       revocation.revoked
FROM device
LEFT JOIN certificate ON certificate.id =
    (SELECT MAX(newest.id) FROM certificate AS newest WHERE newest.device = device.name)
LEFT JOIN token ON token.device = device.name AND token.used IS NULL
LEFT JOIN revocation ON revocation.serial = certificate.serial;
