"""Coverage-guided fuzzing of whatever reads what strangers send.

    .venv/bin/pip install -e '.[fuzz]'
    .venv/bin/python -m contrib.fuzz requests /tmp/corpus -max_total_time=60    # one target; options are libFuzzer's
    .venv/bin/python -m contrib.fuzz requests crash-…                           # one input again

`targets` says what each target reads, and what it may raise; `seeds` what it begins with. `contrib.reliability.fuzz`
runs all of them and counts.
"""
