-- What enrolments, profiles and revocations look up by: without it each reads the whole table.
CREATE INDEX certificate_token ON certificate (token);
CREATE INDEX device_profile ON device (profile);
