"""The lifecycle language: which images a policy expires. Pure functions.

Rules are taken by priority. A rule looks at every image that fits its selection, counted or by age; it never touches an image that
fits the selection of a rule before it. What a list refers to goes only with the list.
Source: ECR User Guide, "Lifecycle policies" and "Lifecycle policy properties".
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pilvi.core.errors import Invalid

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    priority: int
    tag_status: str
    """tagged, untagged or any."""
    patterns: tuple[str, ...]
    """Each must fit one of the image's tags."""
    count_type: str
    count: int

    def selects(self, image: Record) -> bool:
        tags: Sequence[str] = image["tags"]
        if self.tag_status == "any":
            return True
        if self.tag_status == "untagged":
            return not tags
        return bool(tags) and all(any(fnmatch.fnmatchcase(tag, pattern) for tag in tags) for pattern in self.patterns)

    def spent(self, images: Sequence[Record], now: datetime) -> list[Record]:
        """Those of the selected images that are too many or too old."""
        if self.count_type == "imageCountMoreThan":
            return sorted(images, key=lambda image: (image["pushed"], image["digest"]), reverse=True)[self.count :]
        member = "pulled" if self.count_type == "sinceImagePulled" else "pushed"
        edge = now - timedelta(days=self.count)
        return [image for image in images if (image.get(member) or image["pushed"]) <= edge]


def read_rules(text: str) -> list[Rule]:
    """A policy's rules in the order they count; Invalid, with the reason, when it is none."""
    try:
        document = json.loads(text)
    except ValueError:
        raise Invalid("the policy is no JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("rules"), list) or not document["rules"]:
        raise Invalid('object has missing required properties (["rules"])')
    rules = [_rule(entry) for entry in document["rules"]]
    priorities = [rule.priority for rule in rules]
    if len(set(priorities)) != len(priorities):
        raise Invalid("rulePriority must be unique")
    last = max(priorities)
    if any(rule.tag_status == "any" and rule.priority != last for rule in rules):
        raise Invalid("a rule with tagStatus any must have the highest value for rulePriority")
    return sorted(rules, key=lambda rule: rule.priority)


def expired(rules: Sequence[Rule], images: Sequence[Record], now: datetime) -> list[tuple[Record, Rule]]:
    """The images that a policy expires now, each with the rule that does it."""
    inside = {digest for image in images for digest in image["children"]}
    free = [image for image in images if image["digest"] not in inside]
    claimed: set[str] = set()
    found: list[tuple[Record, Rule]] = []
    for rule in rules:
        selected = [image for image in free if rule.selects(image)]
        found += [(image, rule) for image in rule.spent(selected, now) if image["digest"] not in claimed]
        claimed |= {image["digest"] for image in selected}
    return found


def _rule(entry: Any) -> Rule:
    if not isinstance(entry, Mapping):
        raise Invalid("a rule is an object")
    selection, action = entry.get("selection"), entry.get("action")
    priority = entry.get("rulePriority")
    if not isinstance(selection, Mapping) or not isinstance(action, Mapping) or not isinstance(priority, int) or priority < 1:
        raise Invalid("a rule needs rulePriority (1 or more), selection and action")
    if action.get("type") != "expire":
        raise Invalid('instance value (action.type) not found in enum (possible values: ["expire"])')
    status, kind, count = selection.get("tagStatus"), selection.get("countType"), selection.get("countNumber")
    if status not in ("tagged", "untagged", "any"):
        raise Invalid("tagStatus is tagged, untagged or any")
    if kind not in ("imageCountMoreThan", "sinceImagePushed", "sinceImagePulled"):
        raise Invalid("countType is imageCountMoreThan, sinceImagePushed or sinceImagePulled")
    if not isinstance(count, int) or count < 1:
        raise Invalid("countNumber is a number of 1 or more")
    if (kind == "imageCountMoreThan") == (selection.get("countUnit") == "days"):
        raise Invalid("countUnit days goes with sinceImagePushed and sinceImagePulled, and only with them")
    return Rule(priority, status, _patterns(selection, status), kind, count)


def _patterns(selection: Mapping[str, Any], status: str) -> tuple[str, ...]:
    prefixes, patterns = selection.get("tagPrefixList"), selection.get("tagPatternList")
    if status != "tagged":
        if prefixes or patterns:
            raise Invalid("tagPrefixList and tagPatternList go with tagStatus tagged only")
        return ()
    if bool(prefixes) == bool(patterns):
        raise Invalid("tagStatus tagged needs one of tagPrefixList and tagPatternList")
    escaped = [f"{prefix.replace('[', '[[]').replace('*', '[*]').replace('?', '[?]')}*" for prefix in prefixes or ()]
    return tuple(escaped or [str(pattern) for pattern in patterns or ()])
