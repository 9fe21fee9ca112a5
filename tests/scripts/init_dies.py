"""init() takes the process down with code 0, without a word."""
import os


def init():
    os._exit(0)


def run(mini_batch):
    return mini_batch
