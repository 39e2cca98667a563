-- The certificate (DER) of the intermediate that signed a checkpoint; none where the root did. It may be replaced by another
-- for the same key, and a checkpoint is verified as long as there is a log.

ALTER TABLE audit_checkpoint ADD COLUMN issuer BLOB;
