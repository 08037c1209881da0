// `loraine convert model.gguf DIR`: a GGUF file as a Hugging Face folder.
#include <cstdio>

#include "loraine/cli/commands.h"
#include "loraine/cli/progress.h"
#include "loraine/core/error.h"
#include "loraine/io/model_files.h"

namespace loraine {

int run_convert(const std::vector<std::string>& args) {
  const char* usage = "usage: loraine convert MODEL.gguf DIR\n";
  if (args.size() == 1 && (args[0] == "--help" || args[0] == "-h")) {
    std::fputs((example_text("convert") + usage).c_str(), stdout);
    return 0;
  }
  if (args.size() != 2)
    throw Error(ErrorKind::usage, "convert takes two arguments: a GGUF file and the folder to write", "loraine convert MODEL.gguf DIR");
  convert_gguf(args[0], args[1]);
  print_stderr("wrote " + args[1] + "\n");
  return 0;
}

}  // namespace loraine
