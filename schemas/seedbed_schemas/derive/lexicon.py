"""The words by which a page of the vendor's make marks its facts, each with what it means to the reader."""

from __future__ import annotations

import re
from typing import Final

METHOD: Final = "请求方法"
PATH: Final = "请求路径"

REQUEST: Final = "请求参数"
ANSWER: Final = "响应"
AUTHORIZATION: Final = "Authorizations"
BODY: Final = re.compile(r"Body \((?P<media>[\w/+.-]+)\)")
PROPERTIES: Final = re.compile(r"(?P<field>\S+) 对象属性")

NAME: Final = "参数名"
TYPE: Final = "类型"
LOCATION: Final = "位置"
REQUIRED: Final = "必填"
DEFAULT: Final = "默认值"
DESCRIPTION: Final = "说明"

YES_NO: Final = {"是": True, "否": False}
NO_DEFAULT: Final = "-"

OPTIONS: Final = "可用选项"
EXAMPLE: Final = "示例"
CODES: Final = "状态码说明"
LIMITS: Final = {"最大长度": "maxLength"}
"""Labels of limits, each with the JSON Schema keyword that says the same."""

TYPES: Final = frozenset({"string", "integer", "number", "boolean", "object", "array"})
"""The names of types, which the pages share with JSON Schema."""
