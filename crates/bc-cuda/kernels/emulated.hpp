// What makes the kernels run on CPU threads through HIP-CPU: a table of them by their names.
#ifndef BC_EMULATED
#define BC_EMULATED

#include <hip/hip_runtime.h>

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>

namespace bc {

using Call = std::function<void(dim3, void**)>;

inline std::map<std::string, Call>& table() {
    static std::map<std::string, Call> kernels;
    return kernels;
}

template <typename... A, std::size_t... I>
void launch(void (*kernel)(A...), dim3 grid, void** arguments, std::index_sequence<I...>) {
    hipLaunchKernelGGL(kernel, grid, dim3(256), 0, nullptr, *static_cast<A*>(arguments[I])...);
}

template <typename... A>
struct Entry {
    Entry(const char* name, void (*kernel)(A...)) {
        table()[name] = [kernel](dim3 grid, void** arguments) {
            launch(kernel, grid, arguments, std::index_sequence_for<A...>{});
        };
    }
};

}  // namespace bc

#define BC_ENTRY(name) static const bc::Entry entry_##name(#name, name);

#endif
