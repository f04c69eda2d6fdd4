"""Print every table, or those named on the command line."""

import sys

from benchmarks import (
    cancelling,
    context,
    conversion,
    embeddings,
    failing,
    importing,
    indexing,
    lifecycle,
    long_texts,
    metrics,
    path_length,
    schemas,
    short_replies,
    simulator,
    streaming,
    token_estimates,
)

TABLES = {
    "streaming": streaming.table,
    "short_replies": short_replies.table,
    "path_length": path_length.table,
    "conversion": conversion.table,
    "schemas": schemas.table,
    "importing": importing.table,
    "cancelling": cancelling.table,
    "failing": failing.table,
    "indexing": indexing.table,
    "embeddings": embeddings.table,
    "long_texts": long_texts.table,
    "simulator": simulator.table,
    "lifecycle": lifecycle.table,
    "metrics": metrics.table,
    "token_estimates": token_estimates.table,
    "context": context.table,
}


def main(names):
    for name in names or TABLES:
        print(TABLES[name](), end="\n\n", flush=True)


main(sys.argv[1:])
