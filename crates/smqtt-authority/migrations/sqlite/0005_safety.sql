-- Splits of the backup key into shares. Of the key there is what tells keys apart, of the shares nothing.
CREATE TABLE backup_shares (
    share_set TEXT    NOT NULL PRIMARY KEY,
    key_id    TEXT    NOT NULL,
    threshold INTEGER NOT NULL,
    shares    INTEGER NOT NULL,
    made      INTEGER NOT NULL
) STRICT;

-- Signed statements of where the audit log stood.
CREATE TABLE audit_checkpoint (
    sequence  INTEGER NOT NULL PRIMARY KEY,
    time      INTEGER NOT NULL,
    chain     BLOB    NOT NULL CHECK (length(chain) = 32),
    signature BLOB    NOT NULL CHECK (length(signature) = 64)
) STRICT;
