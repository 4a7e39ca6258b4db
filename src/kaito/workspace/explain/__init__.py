"""From an object to the cause: each module reads one kind of object and says what it tells, or None when it is well."""
