"""What smspark-submit is made of: submit.py reads the command and runs the application, settings.py gathers Spark's settings,
cluster.py joins the job's hosts to one Spark standalone cluster.
"""
