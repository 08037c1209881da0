// Tokenizer alone: loading, MB/s on files (processor time, one thread), and ids for a comparison with another library.
// Called by tokenizer.py and tokenizer_fuzz.py.
#include "loraine/text/tokenizer/tokenizer.h"

#include <ctime>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "loraine/core/error.h"

using Json = nlohmann::json;

static double processor_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

static std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw loraine::Error(loraine::ErrorKind::usage, path + ": cannot be read");
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

static uint64_t fingerprint(const std::vector<int32_t>& ids) {
  uint64_t h = 14695981039346656037ull;
  for (int32_t id : ids) h = (h ^ static_cast<uint32_t>(id)) * 1099511628211ull;
  return h;
}

// One request a line, {"text", "add_special_tokens", "ids"}; one answer a line: the text's ids, and what `ids` decode to.
static void answer_lines(const loraine::Tokenizer& tokenizer) {
  std::string line;
  while (std::getline(std::cin, line)) {
    Json request = Json::parse(line), answer;
    if (request.contains("text"))
      answer["ids"] = tokenizer.encode(request["text"].get_ref<const std::string&>(), request.value("add_special_tokens", false),
                                       request.value("split_special_tokens", false));
    if (request.contains("ids")) {
      auto ids = request["ids"].get<std::vector<int32_t>>();
      answer["decoded"] = tokenizer.decode(ids, false);
      answer["decoded_skip"] = tokenizer.decode(ids, true);
    }
    std::cout << answer.dump(-1, ' ', true) << '\n';
  }
}

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: bench_tokenizer TOKENIZER.json --lines | [--repeats N] FILE...\n";
    return 2;
  }
  std::string json = read_file(argv[1]);
  double start = processor_seconds();
  auto tokenizer = loraine::Tokenizer::from_json(json, argv[1]);
  Json load = {{"load_seconds", processor_seconds() - start}};
  if (argc > 2 && std::string(argv[2]) == "--lines") {
    answer_lines(*tokenizer);
    return 0;
  }
  std::cout << load << '\n';
  int repeats = 3, first = 2;
  if (argc > 3 && std::string(argv[2]) == "--repeats") repeats = std::stoi(argv[3]), first = 4;
  for (int i = first; i < argc; ++i) {
    std::string text = read_file(argv[i]);
    std::vector<int32_t> ids;
    std::vector<double> seconds;
    for (int k = 0; k < repeats; ++k) {
      start = processor_seconds();
      ids = tokenizer->encode(text);
      seconds.push_back(processor_seconds() - start);
    }
    start = processor_seconds();
    size_t decoded = tokenizer->decode(ids).size();
    std::cout << Json{{"file", argv[i]},
                      {"bytes", text.size()},
                      {"tokens", ids.size()},
                      {"seconds", seconds},
                      {"fingerprint", fingerprint(ids)},
                      {"decode_seconds", processor_seconds() - start},
                      {"decoded_bytes", decoded}}
              << std::endl;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
