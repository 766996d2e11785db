"""Bytes to dicts and back, driven by botocore's models. Pure functions: no network, no clock, no state but compiled closures.

route.py      which service and operation a request means
models.py     Models -> ServiceModel -> Operation: decode, check, encode, encode_error
<protocol>.py aws_json, query, ec2, rest_json, rest_xml, cbor: what a request and a response look like on the wire
tree.py, xml.py, rest.py, eventstream.py, scalars.py, shapes.py: what several protocols share
check.py, patterns.py: the constraints of the model
quirks.py     one service's oddities, as tables
"""
