"""Rules for one message at a time: the response envelope, the task record and the callback request."""
