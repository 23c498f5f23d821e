"""Strategies of mmengine's FlexibleRunner."""
