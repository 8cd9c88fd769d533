"""Virtualization.framework as pyobjc shows it: the classes and selectors that polyvm uses, from Apple's headers of macOS 11 and
12.

An Objective-C selector ``initWithURL:readOnly:error:`` is the Python method ``initWithURL_readOnly_error_``; one that takes an
``NSError **`` gets None there and returns a pair (result, error).
"""

from __future__ import annotations

# Python modules of pyobjc-framework-Virtualization, pyobjc-framework-Cocoa and pyobjc-framework-libdispatch.
MODULES = ("Virtualization", "Foundation", "dispatch")

# Module → class → selectors, as Python names.
CLASSES: dict[str, dict[str, tuple[str, ...]]] = {
    "Virtualization": {
        "VZVirtualMachine": (
            "alloc", "isSupported", "initWithConfiguration_queue_", "state", "canStart", "canPause", "canResume",
            "canRequestStop", "canStop", "startWithCompletionHandler_", "pauseWithCompletionHandler_",
            "resumeWithCompletionHandler_", "stopWithCompletionHandler_", "requestStopWithError_",
        ),
        "VZVirtualMachineConfiguration": (
            "alloc", "init", "setBootLoader_", "setMemorySize_", "setCPUCount_", "setEntropyDevices_", "setMemoryBalloonDevices_",
            "setNetworkDevices_", "setSerialPorts_", "setStorageDevices_", "validateWithError_", "minimumAllowedMemorySize",
            "maximumAllowedMemorySize", "minimumAllowedCPUCount", "maximumAllowedCPUCount",
        ),
        "VZLinuxBootLoader": ("alloc", "initWithKernelURL_", "setCommandLine_", "setInitialRamdiskURL_"),
        "VZDiskImageStorageDeviceAttachment": ("alloc", "initWithURL_readOnly_error_"),
        "VZVirtioBlockDeviceConfiguration": ("alloc", "initWithAttachment_"),
        "VZFileHandleSerialPortAttachment": ("alloc", "initWithFileHandleForReading_fileHandleForWriting_"),
        "VZVirtioConsoleDeviceSerialPortConfiguration": ("alloc", "init", "setAttachment_"),
        "VZVirtioEntropyDeviceConfiguration": ("alloc", "init"),
        "VZVirtioTraditionalMemoryBalloonDeviceConfiguration": ("alloc", "init"),
        "VZVirtioNetworkDeviceConfiguration": ("alloc", "init", "setAttachment_"),
        "VZNATNetworkDeviceAttachment": ("alloc", "init"),
    },
    "Foundation": {
        "NSURL": ("fileURLWithPath_",),
        "NSFileHandle": ("alloc", "initWithFileDescriptor_"),
    },
}  # fmt: skip
FUNCTIONS: dict[str, tuple[str, ...]] = {"dispatch": ("dispatch_queue_create", "dispatch_sync")}

# VZVirtualMachineState.
STATES = ("stopped", "running", "paused", "error", "starting", "pausing", "resuming", "stopping", "saving", "restoring")
