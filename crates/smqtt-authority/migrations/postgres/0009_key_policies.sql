-- What devices may read by their policy key; see migrations/sqlite.

ALTER TABLE profile ADD COLUMN key_policy TEXT COLLATE "C";
ALTER TABLE device ADD COLUMN own_key_policy TEXT COLLATE "C";
ALTER TABLE device ADD COLUMN key_policy TEXT COLLATE "C";
ALTER TABLE attribute_key ADD COLUMN key_policy TEXT COLLATE "C";

DROP VIEW device_overview;

CREATE VIEW device_overview AS
SELECT device.name, device.attributes, device.created, device.profile, device.own, device.suspended,
       device.key_policy, device.own_key_policy,
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
