"""The generated deployer's policy, shown by taking it away: `sam deploy`, an update and `sam delete`
by an IAM user who holds it and nothing else.

This AWS checks what SAM CLI asks for itself. What CloudFormation does in the user's name (it makes
functions, roles and buckets) it does not check, so for those actions IAM's simulator is asked about
the names that the stack really has.
"""
