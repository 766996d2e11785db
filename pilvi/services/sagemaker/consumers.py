"""Who takes the facts of SageMaker (pilvi.events): one consumer a purpose."""

from pilvi.events import Consumer
from pilvi.services.sagemaker import state_note
from pilvi.services.sagemaker.state_change import take, take_noted

CONSUMERS = (
    Consumer("sagemaker/jobs", take),
    Consumer(state_note.CONSUMER, take_noted),
)
