"""Fencing by Redfish (DMTF DSP0266), with sushy."""
