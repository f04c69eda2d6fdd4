"""Cost of the functions of 20 tools with 10 properties each: in the first turn, and in those that follow."""

import statistics
import time

from griptape.artifacts import TextArtifact
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from pydantic import Field, create_model
from schema import Literal, Optional, Or, Schema

from benchmarks.tables import markdown
from griptape_ollama.conversion import schemas, tools
from griptape_ollama.conversion.tools import to_chat_tools
from griptape_ollama.protocol.schema_compiler import compile_parameters

TOOLS, PROPERTIES, REPEATS = 20, 10, 30


def _of_the_schema_library(number):
    kinds = (str, int, Or("a", "b"), [str], Or(int, None), {"x": int}, bool, float, Or(str, [str]), {"y": [{"z": str}]})
    return Schema(
        {
            (Optional if i % 2 else Literal)(f"p{i}", description=f"Property {i} of tool {number}"): kinds[i]
            for i in range(PROPERTIES)
        }
    )


def _of_pydantic(number):
    inner = create_model(f"Inner{number}", x=(int, Field(ge=0, le=9)), y=(str | None, None))
    kinds = (str, int, bool, float, list[str], inner, inner | None, list[inner], int | str, dict[str, int])
    fields = {f"p{i}": (kinds[i], Field(description=f"Property {i}")) for i in range(PROPERTIES)}
    return create_model(f"Model{number}", **fields)


def _tool(number, schema):
    class Tool(BaseTool):
        @activity(config={"description": "Does something", "schema": schema})
        def do(self, params):
            return TextArtifact("done")

    return Tool(name=f"Tool{number}")


def _forget():
    tools._known.clear()
    schemas._compiled_parameters.cache_clear()


def _milliseconds(work, before=lambda: None):
    taken = []
    for _ in range(REPEATS):
        before()
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def _row(name, make):
    offered = [_tool(number, make(number)) for number in range(TOOLS)]
    known = [(each, each.activities()[0]) for each in offered]
    originals = [schemas.to_json_schema(each.activity_schema(activity)) for each, activity in known]
    compiling = _milliseconds(lambda: [compile_parameters(original) for original in originals])
    first = _milliseconds(lambda: to_chat_tools(offered), _forget)
    again = _milliseconds(lambda: [tools._parameters(each, activity) for each, activity in known])
    later = _milliseconds(lambda: to_chat_tools(offered))
    return name, f"{compiling:.2f}", f"{again:.2f}", f"{first:.1f}", f"{later:.1f}"


def table():
    rows = [_row("schema.Schema", _of_the_schema_library), _row("pydantic", _of_pydantic)]
    title = f"Functions of {TOOLS} tools with {PROPERTIES} properties each (ms, median of {REPEATS})"
    head = ("schemas of", "compiling", "in later turns", "all of it, Griptape's part included", "in later turns")
    return markdown(title, head, rows)
