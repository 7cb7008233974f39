"""The AWS Lambda API onto functions and jobs: for boto3 and whatever else speaks it."""
