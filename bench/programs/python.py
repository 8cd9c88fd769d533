"""What Python programs do: `python.py NAME N`."""

import json
import re
import sys


def nbody(n):
    bodies = [[0, 0, 0, 0, 0, 0, 39.5], [4.8, -1.2, -0.1, 0.6, 2.8, 0, 0.04], [8.3, 4.1, -0.4, -1, 1.8, 0, 0.01]]
    for _ in range(n * 1000):
        for i, a in enumerate(bodies):
            for b in bodies[i + 1 :]:
                x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
                f = 0.001 / (x * x + y * y + z * z) ** 1.5
                a[3] -= x * b[6] * f
                a[4] -= y * b[6] * f
                b[3] += x * a[6] * f
                b[4] += y * a[6] * f
        for a in bodies:
            a[0] += 0.001 * a[3]
            a[1] += 0.001 * a[4]
    return round(bodies[1][0], 6)


class Task:
    """One of a ring that pass packets on."""

    def __init__(self, number, handler):
        self.number, self.handler, self.queue, self.count = number, handler, [], 0

    def run(self, tasks):
        if self.queue:
            packet = self.queue.pop()
            self.count += 1
            tasks[self.handler(self, packet) % len(tasks)].queue.append(packet)


class Doubling(Task):
    def run(self, tasks):
        super().run(tasks)
        self.count += 1


def objects(n):
    tasks = [(Task, Doubling)[i % 2](i, lambda task, packet: task.number + packet["step"]) for i in range(12)]
    for i in range(40):
        tasks[i % 12].queue.append({"step": i % 5 + 1})
    for _ in range(n * 1000):
        for task in tasks:
            task.run(tasks)
    return [task.count for task in tasks]


def dumps(n):
    value = [{"id": i, "name": f"user {i}", "score": i / 7, "tags": ["a", "b\n", None, True]} for i in range(200)]
    total = 0
    for _ in range(n):
        value = json.loads(json.dumps(value))
        total += len(value[7]["name"])
    return total


def regex(n):
    text = " ".join(f"{i * 7919 % 1000} word{i}@host{i % 13}.org 2024-{i % 12 + 1:02}-{i % 28 + 1:02}" for i in range(500))
    patterns = [re.compile(p) for p in (r"\b[a-z]+\d+@[a-z0-9]+\.org\b", r"(\d{4})-(\d\d)-(\d\d)", r"(?:word1|word2|word33)\d*")]
    return sum(len(pattern.findall(text)) + len(pattern.sub("-", text)) for _ in range(n) for pattern in patterns)


def strings(n):
    total = 0
    for i in range(n):
        parts = [f"{j:05d}{chr(97 + j % 26)}" for j in range(2000)]
        text = ",".join(parts).upper().replace("A", "xyz")
        total += len(text.split(",")) + text.count("Z") + text.find(f"0{i % 1000:04}")
    return total


def sorts(n):
    total, seed = 0, 1
    for _ in range(n):
        counts = {}
        for _ in range(5000):
            seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
            counts[seed % 997] = counts.get(seed % 997, 0) + 1
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        total += ranked[0][0] + sum(ranked[5])
    return total


print(globals()[sys.argv[1]](int(sys.argv[2])))
