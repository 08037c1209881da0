// A few lines on which a merged model is compared with base + adapter: prose in three scripts, and a program.
#pragma once

namespace loraine {

inline constexpr const char* kSampleText[] = {
    "A river does not hurry. It finds the lowest place, carries what it can, and leaves the rest on the banks, where people built towns "
    "and later asked why the water came so close to their doors.",
    "春天来了,山上的雪慢慢化成了水。村里的老人说,今年的茶会比去年早半个月,因为二月就已经很暖和了。",
    "Le train de nuit part à vingt-deux heures. Поезд идёт всю ночь, а утром за окном уже видно море. Wer früh aufsteht, sieht die Sonne "
    "über dem Wasser.",
    "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n    return total / "
    "len(values)\n\nprint(mean([1, 2, "
    "3, 4]))\n"};

}  // namespace loraine
