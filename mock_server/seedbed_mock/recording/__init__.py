"""Recordings of real traffic: a proxy that makes them, the HAR files that hold them, and a server that replays them."""
