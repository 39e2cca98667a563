-- Renewals, suspension, profiles, the schema of attributes, tokens that can be used several times.

-- Named sets of attributes.
CREATE TABLE profile (
    name       TEXT NOT NULL PRIMARY KEY,
    -- Canonical text of the policy language.
    attributes TEXT NOT NULL
) STRICT;

-- A device's attributes are its profile's and its own; `attributes` has both, canonical.
ALTER TABLE device ADD COLUMN profile TEXT REFERENCES profile (name);
ALTER TABLE device ADD COLUMN own TEXT NOT NULL DEFAULT '';
UPDATE device SET own = attributes;
-- While it is suspended: since when.
ALTER TABLE device ADD COLUMN suspended INTEGER;
-- When it was removed. Its certificates and the audit log go on to name it.
ALTER TABLE device ADD COLUMN removed INTEGER;

-- SHA-256 of the certified public key (SubjectPublicKeyInfo), the token that it was issued for, and the attributes that the
-- certificate shows; NULL for servers and for what older programs have issued.
ALTER TABLE certificate ADD COLUMN key_digest BLOB;
ALTER TABLE certificate ADD COLUMN token BLOB;
ALTER TABLE certificate ADD COLUMN shown TEXT;

-- When the device said that it uses the key; enrolments say so by themselves.
ALTER TABLE attribute_key ADD COLUMN confirmed INTEGER;
UPDATE attribute_key SET confirmed = issued;

-- How often a token can still be used; at 0 `used` is set.
ALTER TABLE token ADD COLUMN uses_left INTEGER NOT NULL DEFAULT 1;
UPDATE token SET uses_left = 0 WHERE used IS NOT NULL;

-- What attributes there are. The newest version holds.
CREATE TABLE attribute_schema (
    version INTEGER NOT NULL PRIMARY KEY,
    changed INTEGER NOT NULL,
    -- TOML, as smqtt-policy reads it.
    text    TEXT    NOT NULL
) STRICT;

DROP VIEW device_overview;

CREATE VIEW device_overview AS
SELECT device.name, device.attributes, device.created, device.profile, device.own, device.suspended,
       certificate.serial, certificate.fingerprint, certificate.not_after,
       (SELECT MAX(attribute_key.epoch) FROM attribute_key
        WHERE attribute_key.device = device.name AND attribute_key.confirmed IS NOT NULL) AS key_epoch,
       token.expires AS token_expires, token.uses_left AS token_uses,
       CASE WHEN revocation.reason = 'certificate-hold' THEN NULL ELSE revocation.revoked END AS revoked
FROM device
LEFT JOIN certificate ON certificate.id =
    (SELECT MAX(newest.id) FROM certificate AS newest WHERE newest.device = device.name)
LEFT JOIN token ON token.device = device.name AND token.used IS NULL
LEFT JOIN revocation ON revocation.serial = certificate.serial
WHERE device.removed IS NULL;
