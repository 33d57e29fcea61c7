window.BENCHMARK_DATA = {
  "lastUpdate": 1772452980000,
  "repoUrl": "https://github.com/example/tinysort",
  "entries": {
    "Rust Benchmark": [
      {
        "commit": {
          "author": {
            "name": "A Developer",
            "email": "dev@example.com",
            "username": "dev"
          },
          "committer": {
            "name": "A Developer",
            "email": "dev@example.com",
            "username": "dev"
          },
          "distinct": true,
          "id": "5a8e0d61f0c2b7a94d3e6f1b8c5a7d9e0f1a2b3c",
          "message": "First",
          "timestamp": "2026-03-01T12:00:00+00:00",
          "tree_id": "c3b2a1f0e9d7a5c8b1f6e3d49a7b2c0f16d0e8a5",
          "url": "https://github.com/example/tinysort/commit/5a8e0d61f0c2b7a94d3e6f1b8c5a7d9e0f1a2b3c"
        },
        "date": 1772366520000,
        "tool": "cargo",
        "benches": [
          {
            "name": "bench_sort",
            "value": 37174,
            "range": "± 7527",
            "unit": "ns/iter"
          },
          {
            "name": "bench_join",
            "value": 149,
            "range": "± 12",
            "unit": "ns/iter"
          }
        ]
      },
      {
        "commit": {
          "author": {
            "name": "A Developer",
            "email": "dev@example.com",
            "username": "dev"
          },
          "committer": {
            "name": "A Developer",
            "email": "dev@example.com",
            "username": "dev"
          },
          "distinct": true,
          "id": "05b12d98c75e5ccc40ee3e100ab71d72e3bdd7c4",
          "message": "Second\n\nFaster: ü, ↑ and 'quotes'",
          "timestamp": "2026-03-02T12:00:00+00:00",
          "tree_id": "4c7ddb3e27d17ba001e3ee04ccc5e57c89d21b50",
          "url": "https://github.com/example/tinysort/commit/05b12d98c75e5ccc40ee3e100ab71d72e3bdd7c4"
        },
        "date": 1772452920000,
        "tool": "cargo",
        "benches": [
          {
            "name": "bench_sort",
            "value": 35012,
            "range": "± 801",
            "unit": "ns/iter"
          },
          {
            "name": "bench_join",
            "value": 150,
            "range": "± 9",
            "unit": "ns/iter"
          }
        ]
      }
    ],
    "Python Benchmark with pytest-benchmark": [
      {
        "commit": {
          "author": {
            "name": "A Developer",
            "email": "dev@example.com",
            "username": "dev"
          },
          "committer": {
            "name": "A Developer",
            "email": "dev@example.com",
            "username": "dev"
          },
          "distinct": true,
          "id": "05b12d98c75e5ccc40ee3e100ab71d72e3bdd7c4",
          "message": "Second\n\nFaster: ü, ↑ and 'quotes'",
          "timestamp": "2026-03-02T12:00:00+00:00",
          "tree_id": "4c7ddb3e27d17ba001e3ee04ccc5e57c89d21b50",
          "url": "https://github.com/example/tinysort/commit/05b12d98c75e5ccc40ee3e100ab71d72e3bdd7c4"
        },
        "date": 1772452980000,
        "tool": "pytest",
        "benches": [
          {
            "name": "tests/test_sorting.py::test_sorted[100-random]",
            "value": 643272.9624942021,
            "unit": "iter/sec",
            "range": "stddev: 2.1403950869273593e-7",
            "extra": "mean: 1.554550025113193 usec\nrounds: 7"
          }
        ]
      }
    ]
  }
}