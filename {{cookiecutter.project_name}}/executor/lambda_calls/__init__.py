"""Runs pickled calls on an AWS Lambda function; knows no Covalent."""
