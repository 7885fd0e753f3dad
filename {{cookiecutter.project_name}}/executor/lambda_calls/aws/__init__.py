"""Requests to AWS: who we are there, Lambda's Invoke, S3's objects, and what a refusal means."""
