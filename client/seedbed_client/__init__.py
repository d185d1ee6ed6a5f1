"""The reference client of the Seedream job API."""
