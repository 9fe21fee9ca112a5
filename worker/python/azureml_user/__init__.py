"""What an entry script can ask of the job that runs it; see :mod:`azureml_user.parallel_run`."""
