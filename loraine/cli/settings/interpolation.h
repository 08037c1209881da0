// ${…} and ??? in settings from files and key=value words, as OmegaConf has them: ${key}, ${a.b}, ${list[0]}, ${.neighbour},
// ${oc.env:NAME}, ${oc.env:NAME,default}, \${ for the two characters. Called by read_arguments, after overrides are merged.
#pragma once
#include <vector>

#include "loraine/cli/settings/yaml_values.h"

namespace loraine {

// Puts in what each one stands for; a value that is one ${oc.env:…} is marked as plain text, so that it may be a number or a word.
// Throws Error::usage naming the key, its place and the variable or key that is not there; a value that is still ???; one that needs
// itself.
void resolve_interpolations(std::vector<KeyValue>& pairs);

}  // namespace loraine
