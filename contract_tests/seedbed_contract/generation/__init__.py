"""Values made from JSON Schemas: valid instances, and values that break one rule."""
