"""Takes longer than it may."""

import time


def lambda_handler(event, context):
    time.sleep(context.get_remaining_time_in_millis() / 1000 + 5)
